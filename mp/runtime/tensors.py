"""Tensors in files: written whole, read without running code, and held against what they should be."""
import io
import math
import pickle
import re
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mp.runtime.errors import UserError, reason, short_of_memory, unreadable
from mp.runtime.files import write_whole

FOREIGN = "a checkpoint of another project"


def write(path: Path, value: dict | Tensor) -> None:
    """Tensors, numbers, strings, lists and dicts, in torch's format."""
    def save(temporary: Path) -> None:
        with open(temporary, "wb") as f:  # a file object, so that the bytes don't depend on the file's name
            torch.save(value, f)

    write_whole(path, save)


class ForeignObjects(ValueError):
    """A file holds more than tensors, numbers, strings, lists and dicts: this project wrote none such."""


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


class Inert(dict):
    """Stands for whatever a file names besides tensors and containers: holds its attributes and does nothing."""

    __hash__ = object.__hash__

    def __init__(self, *_, **__):
        super().__init__()

    def __call__(self, *_, **__):
        return Inert()

    def __setstate__(self, attributes):
        if isinstance(attributes, dict):
            self.update(attributes)

    def append(self, *_):
        """Takes, like `extend` and `add`, what lists and sets of unknown kinds are filled with."""

    extend = add = append


class InertUnpickler(pickle.Unpickler):
    """Rebuilds tensors and containers; everything else that a file names becomes Inert, and nothing of it runs."""

    REBUILT = {("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
               ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
               ("torch", "Size"): torch.Size, ("collections", "OrderedDict"): OrderedDict}

    def find_class(self, module: str, name: str):
        found = self.REBUILT.get((module, name), Inert)
        return found if isinstance(found, type) else partial(found)  # a file may set a function's attributes, for good


class InertPickle:
    """What torch.load takes as `pickle_module`."""
    Unpickler = InertUnpickler

    @staticmethod
    def load(file, **options):
        return InertUnpickler(file, **options).load()


def load(path: Path, objects: bool = False):
    """What torch.save wrote, on the CPU, without running code from the file.

    `objects`: of a file that also holds Python objects, such as an optimiser; each becomes an Inert. Raises OSError,
    MemoryError, and ValueError with the reason for all else.
    """
    try:
        source = path  # torch's formats: zip, and an old one
        if zipfile.is_zipfile(path):
            source = checked_copy(path)
        elif starts_as_zip(path):  # torch may find its end all the same, and run TorchScript
            raise EOFError
        elif objects and tarfile.is_tarfile(path):
            raise ValueError("a tar archive")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that others use
            if objects:
                return torch.load(source, map_location="cpu", weights_only=False, pickle_module=InertPickle)
            return torch.load(source, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as e:  # there is nothing that damaged bytes don't raise
        if short_of_memory(e):
            raise MemoryError from None
        if found := re.search(r"GLOBAL (\S+)", str(e)):
            raise ForeignObjects(f"Python objects ({found[1][:80]}), which aren't loaded") from None
        raise ValueError(reason(e)) from None


def starts_as_zip(path: Path) -> bool:
    with open(path, "rb") as f:
        return f.read(2) == b"PK"


def checked_copy(path: Path) -> io.BytesIO:
    """A zip archive in memory whose entries agreed with their checksums; torch.load compares none."""
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as checked:
        names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            raise ValueError("a TorchScript archive")  # torch.load would run it
        if len(set(names)) < len(names):
            raise ValueError("two entries of one name")
        for name in names:
            checked.writestr(name, archive.read(name))
    copy.seek(0)
    return copy


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
