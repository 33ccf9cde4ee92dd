"""What made a result: the command, the commit, and the versions it ran with."""
import platform
import subprocess
import sys
from pathlib import Path

import torch


def provenance(device: str) -> dict[str, str]:
    """For who asks later; nothing of it decides whether a result may be used again (mp/store/cells.py)."""
    return {"command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]), "commit": commit(),
            "torch": str(torch.__version__), "python": platform.python_version(), "device": device}


def commit() -> str:
    """The repository's commit, with "+changes" if files differ from it; "unknown" outside a repository."""
    def git(*args: str) -> str:
        root = Path(__file__).parents[2]
        return subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
