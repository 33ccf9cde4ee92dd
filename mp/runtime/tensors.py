"""Tensors in files of this project: written whole, read again, and held against what they should be."""
import math
from pathlib import Path

import torch
from torch import Tensor

from mp.runtime.errors import UserError, unreadable
from mp.runtime.files import write_whole
from mp.runtime.torchfile import ForeignObjects, load

FOREIGN = "a checkpoint of another project"


def write(path: Path, value: dict | Tensor) -> None:
    """Tensors, numbers, strings, lists and dicts, in torch's format."""
    def save(temporary: Path) -> None:
        with open(temporary, "wb") as f:  # a file object, so that the bytes don't depend on the file's name
            torch.save(value, f)

    write_whole(path, save)


def read(path: Path, advice: str) -> dict:
    """A dict that `write` wrote. Raises UserError with the advice if the file is absent, damaged, or something else."""
    try:
        value = load(path)
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__}")
        return value
    except (OSError, MemoryError, ValueError) as e:
        what = FOREIGN if isinstance(e, ForeignObjects) else "damaged, or not a file of this project"
        raise UserError(unreadable(path, e, what, advice)) from None


def mismatch(value, like, name: str = "it") -> str:
    """What keeps `value`, read from a file, from taking the place of `like`; "" if nothing does.

    Dicts and lists have the same entries, tensors the same type and shape, and every number is finite.
    """
    if isinstance(like, Tensor):
        return tensor_mismatch(value, like, name)
    if isinstance(like, dict):
        if not isinstance(value, dict):
            return f"{name} holds {type(value).__name__}, not {listed(like)}"
        if value.keys() != like.keys():
            return f"{name} holds {listed(value)}, not {listed(like)}"
        entries = [(value[key], like[key], key) for key in like]
    elif isinstance(like, list):
        if not isinstance(value, list) or len(value) != len(like):
            return f"{name} isn't a list of {len(like)}"
        entries = [(inner, inner_like, name) for inner, inner_like in zip(value, like)]
    else:
        fits = type(value) is type(like) and (not isinstance(value, float) or math.isfinite(value))
        return "" if fits else f"{name} is {str(value)[:40]}"
    for entry in entries:
        if wrong := mismatch(*entry):
            return wrong
    return ""


def listed(names: dict) -> str:
    return ", ".join(map(str, names)) or "nothing"


def tensor_mismatch(value, like: Tensor, name: str) -> str:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return f"{name} is not a plain tensor"
    if value.shape != like.shape:
        return f"{name} is {list(value.shape)}, this model needs {list(like.shape)}"
    if value.dtype != like.dtype:
        return f"{name} holds {value.dtype}, not {like.dtype}"
    return "" if value.isfinite().all() else f"{name} holds NaN or infinite values"
