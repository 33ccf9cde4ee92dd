"""The first 60 of OpenAI's 80 ImageNet templates, from which PromptSRC makes its frozen text features."""
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates.txt").read_text(encoding="utf-8").splitlines()
