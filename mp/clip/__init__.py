"""CLIP, frozen: `load` reads weights into a `CLIP`, which encodes images and texts.

model      the two towers, written out
tokenizer  text to token ids, and back
weights    the files that weights come in, and what is refused of them
download   OpenAI's ViT-B/16, fetched once
"""
from mp.clip.model import CLIP, load

__all__ = ["CLIP", "load"]
