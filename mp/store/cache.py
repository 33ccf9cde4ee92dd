"""The folder for what can be fetched or computed again: weights, image features, folder listings.

Nothing in it is trusted: a file that is damaged or belongs to something else is made anew.
"""
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from mp.runtime import files, tensors
from mp.runtime.errors import DAMAGE, UserError


def folder() -> Path:
    """$XDG_CACHE_HOME/meta-prompts, or ~/.cache/meta-prompts. May be deleted at any time."""
    return files.cache_folder()


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def read_tensor(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The tensor in `path` if it is there, whole, finite and of this shape."""
    try:
        value = tensors.load(path)
    except (OSError, MemoryError, ValueError):
        return None
    return None if tensors.mismatch(value, torch.empty(shape, device="meta")) else value


def read_dict(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except DAMAGE:
        return {}
    return value if isinstance(value, dict) else {}


def keep(path: Path, value: Tensor | dict) -> str:
    """Write a tensor or a dict, if it can be; else the reason why not."""
    try:
        if isinstance(value, Tensor):
            tensors.write(path, value)
        else:
            files.write_whole(path, lambda part: part.write_text(json.dumps(value), encoding="utf-8"))
    except UserError as e:
        return str(e)
    return ""
