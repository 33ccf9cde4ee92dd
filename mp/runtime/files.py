"""Files that appear whole or not at all, and are read with care."""
import fcntl
import glob
import hashlib
import io
import json
import math
import os
import pickle
import platform
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from mp.runtime.errors import DAMAGE, UserError
from mp.runtime.progress import say


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary name beside `path`, then rename it, so a reader never sees half a file.

    Raises UserError if the folder can't be written or the disk is full; an older file stays intact.
    """
    part = path.parent / f".{path.name}.{platform.node()}-{os.getpid()}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError) as e:  # torch.save reports a full disk as RuntimeError
        why = reason(e) if isinstance(e, OSError) else "the disk may be full"
        raise UserError(f"{path}: can't be written ({why}); free some space or choose another place") from None
    finally:
        with suppress(OSError):
            part.unlink()


def sweep(path: Path) -> None:
    """Remove what writes of the file left whose processes, on this machine, were killed."""
    for part in path.parent.glob(glob.escape(f".{path.name}.{platform.node()}-") + "*.part"):
        try:
            os.kill(int(part.stem.rpartition("-")[2]), 0)  # is it alive?
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (ValueError, OverflowError, PermissionError):
            pass


def discard(path: Path) -> None:
    """Remove the file, if it is there, and what killed writes of it left."""
    path.unlink(missing_ok=True)
    sweep(path)


def reason(error: Exception) -> str:
    """What an error says of a file, in a few words. Those of torch's and Python's readers are about themselves."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if short_of_memory(error):
        return "too large for the memory"
    if "TorchScript" in text:
        return "a TorchScript archive"
    if isinstance(error, pickle.UnpicklingError):
        return "not plain tensors"
    if isinstance(error, NotImplementedError):
        return "packed in a way that isn't known here"
    if isinstance(error, (RuntimeError, EOFError, LookupError)):
        return "incomplete, or overwritten"
    return text.splitlines()[0][:120]


def unreadable(path: Path, error: Exception, what: str, advice: str) -> str:
    """A message: what a file is that can't be read, and what to do. If the trouble isn't its own, it may be good."""
    if barred(error):
        return f"{path}: can't be read ({reason(error)}); mend that, then give the same command again"
    if short_of_memory(error):
        return (f"{path}: too large for the memory; give the same command where there is more, or if the file is larger "
                f"than it should be: {advice}")
    return f"{path}: {what} ({reason(error)}); {advice}"


def short_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "alloc_cpu" in str(error)


def barred(error: Exception) -> bool:
    return isinstance(error, OSError) and bool(error.filename) and not isinstance(error, FileNotFoundError)


def write_json(path: Path, value) -> None:
    text = json.dumps(value, indent=1) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path):
    """Raises UserError if the file is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except DAMAGE as e:
        raise UserError(unreadable(path, e, "damaged", "delete its folder and give the command again")) from None


def dig(value, *keys: str):
    """value[key][key]..., or None where there is no such thing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def write_tensors(path: Path, value: dict | Tensor) -> None:
    """Tensors, numbers, strings, lists and dicts, in torch's format."""
    def save(part: Path) -> None:
        with open(part, "wb") as f:  # a file object, so that the bytes don't depend on the file's name
            torch.save(value, f)

    write_whole(path, save)


def load(path: Path):
    """What torch.save wrote, without running code from the file. Raises OSError if the way to it is barred, MemoryError,
    and ValueError with the reason otherwise."""
    try:
        source: Path | io.BytesIO = path
        if zipfile.is_zipfile(path):  # torch.load compares neither checksums nor headers: it gets what was compared
            source = io.BytesIO()
            with zipfile.ZipFile(path) as archive, zipfile.ZipFile(source, "w") as checked:
                for name in archive.namelist():
                    checked.writestr(name, archive.read(name))
            source.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that others use
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as e:  # there is nothing that damaged bytes don't raise
        if barred(e):
            raise
        if short_of_memory(e):
            raise MemoryError from None
        raise ValueError(reason(e)) from None


def read_tensors(path: Path) -> dict:
    """Raises UserError if the file is absent, damaged, or something else."""
    try:
        if isinstance(value := load(path), dict):
            return value
        raise ValueError(f"a {type(value).__name__}")
    except (OSError, MemoryError, ValueError) as e:
        raise UserError(unreadable(path, e, "damaged, or not a file of this project", "give another, or delete it and give "
                                   "the command again")) from None


def misfit(value, like, name: str = "it") -> str:
    """What keeps `value`, read from a file, from taking the place of `like`; nothing if it fits.

    Dicts and lists have the same entries, tensors the same type and shape, and every number is finite.
    """
    if isinstance(like, Tensor):
        if not isinstance(value, Tensor):
            return f"{name} is {type(value).__name__}, not a plain tensor"
        if value.layout != torch.strided or value.device.type != "cpu":
            return f"{name} is {value.layout} on {value.device.type}, not a plain tensor"
        if value.shape != like.shape or value.dtype != like.dtype:
            return (f"{name} is {list(value.shape)}, this model needs {list(like.shape)}" if value.shape != like.shape
                    else f"{name} holds {value.dtype}, not {like.dtype}")
        return "" if value.isfinite().all() else f"{name} holds NaN or infinite values"
    if isinstance(like, dict):
        if not isinstance(value, dict) or value.keys() != like.keys():
            return f"{name} holds {', '.join(map(str, value)) if isinstance(value, dict) else type(value).__name__}, " \
                   f"not {', '.join(like)}"
        return next((wrong for k in like if (wrong := misfit(value[k], like[k], k))), "")
    if isinstance(like, list):
        if not isinstance(value, list) or len(value) != len(like):
            return f"{name} isn't a list of {len(like)}"
        return next((wrong for v, one in zip(value, like) if (wrong := misfit(v, one, name))), "")
    good = type(value) is type(like) and (not isinstance(value, float) or math.isfinite(value))
    return "" if good else f"{name} is {str(value)[:40]}"


def require_same(path: Path, kept, wanted: dict) -> None:
    """Raises UserError naming what differs between what `path` was made from and what is wanted now."""
    def flat(value, prefix: str = "") -> dict:
        if not isinstance(value, dict):
            return {prefix: value}
        below = [flat(inner, f"{prefix}.{key}" if prefix else key) for key, inner in value.items()]
        return {k: v for part in below for k, v in part.items()}

    kept, wanted = flat(kept), flat(wanted)
    if differing := [k for k in kept | wanted if kept.get(k) != wanted.get(k)]:
        shown = ", ".join(f"{k} {str(kept.get(k))[:20]} (now {str(wanted.get(k))[:20]})" for k in differing[:3])
        raise UserError(f"{path}: made with other settings: {shown}; --force replaces it, --out keeps both")


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, advice: str = "choose another --out") -> Iterator[None]:
    """One process at a time; the others wait. The system frees the lock of a process that dies.

    Raises UserError with the advice if the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "w")
    except OSError as e:
        raise UserError(f"{path.parent}: can't be written ({reason(e)}); {advice}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{path.parent}: another process is at work there; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
