"""The provenance of a result: the command, the commit, and the versions it ran with."""
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch


def provenance(device: str) -> dict[str, str]:
    """Return what made a file, for who asks later. Whether the file is used again doesn't depend on it."""
    return {"command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]), "commit": commit(),
            "torch": str(torch.__version__), "python": platform.python_version(), "device": device}


def commit() -> str:
    """Return the repository's commit, with "+changes" if files differ from it; "unknown" outside a repository."""
    def git(*args: str) -> str:
        root = Path(__file__).parents[2]
        return subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
