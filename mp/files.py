"""Files that appear whole or not at all, prompt files, and what made a result."""
import fcntl
import hashlib
import json
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mp.errors import UserError


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary name beside `path`, then rename it, so a reader never sees half a file.

    Raises UserError if the folder can't be written or the disk is full; an older file stays intact.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError) as e:  # torch.save reports a full disk as RuntimeError
        raise UserError(f"{path}: can't be written ({reason(e)}); free some space or choose another --out") from None
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, pickle.UnpicklingError):
        text = "not plain tensors"  # torch's own words here are a page on how to load it all the same
    return text.splitlines()[0][:120]


def write_json(path: Path, value) -> None:
    text = json.dumps(value, indent=1) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path):
    """Raises UserError if the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: not readable ({reason(e)}); delete it and run the command again") from None


def write_tensors(path: Path, value: dict | Tensor) -> None:
    """Tensors, numbers, strings, lists and dicts, in torch's format."""
    def save(part: Path) -> None:
        with open(part, "wb") as f:  # a file object, so that the bytes don't depend on the file's name
            torch.save(value, f)

    write_whole(path, save)


def read_tensors(path: Path) -> dict:
    """Never runs code from the file. Raises UserError if it is absent or damaged."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, LookupError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as e:
        raise UserError(f"{path}: damaged, or not a file of this project ({reason(e)})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a file of this project")
    return value


def write_prompt(path: Path, method: str, params: dict[str, Tensor], made_by: dict) -> None:
    """A prompt file: the method, its learnable tensors, and the settings and provenance that made them."""
    write_tensors(path, {"method": method, "params": {k: v.detach().cpu() for k, v in params.items()},
                         "made_by": made_by})


def read_prompt(path: Path, method: str, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a prompt file, once they fit `method` and the shapes of `expected`.

    Raises UserError that says what differs: the method, a tensor's shape (width or length), or the depth.
    """
    file = read_tensors(path)
    if not isinstance(file.get("method"), str) or not isinstance(file.get("params"), dict):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one")
    if file["method"] != method:
        raise UserError(f"{path}: made for --method {file['method']}, not {method}")
    params = file["params"]
    if params.keys() != expected.keys():
        raise UserError(f"{path}: holds the tensors {', '.join(map(str, params))}; this model and --depth "
                        f"need {', '.join(expected)}")
    for name, p in params.items():
        if not isinstance(p, Tensor) or p.shape != expected[name].shape:
            shape = list(p.shape) if isinstance(p, Tensor) else type(p).__name__
            raise UserError(f"{path}: {name} is {shape}, this model needs {list(expected[name].shape)}; "
                            "it was made for another model or --length")
        if not p.isfinite().all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; make it again with `run.py meta --force`")
    return params


def prompt_sha256(path: Path) -> str:
    """The hash of a prompt's method and tensors. What made it, such as the command line, doesn't count."""
    file = read_tensors(path)
    digest = hashlib.sha256(repr(file.get("method")).encode())
    try:
        for name, p in file["params"].items():
            digest.update(f"{name} {p.dtype} {list(p.shape)}".encode() + p.detach().double().numpy().tobytes())
    except (LookupError, AttributeError, TypeError, RuntimeError):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one") from None
    return digest.hexdigest()


def require_same(path: Path, kept, wanted: dict) -> None:
    """Raises UserError naming what differs between what `path` was made from and what is wanted now."""
    def flat(value, prefix: str = "") -> dict:
        if not isinstance(value, dict):
            return {prefix: value}
        below = [flat(inner, f"{prefix}.{key}" if prefix else key) for key, inner in value.items()]
        return {k: v for part in below for k, v in part.items()}

    kept, wanted = flat(kept), flat(wanted)
    if differing := [k for k in kept | wanted if kept.get(k) != wanted.get(k)]:
        shown = ", ".join(f"{k} {kept.get(k)} (now {wanted.get(k)})" for k in differing[:3])
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
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def provenance(device: str) -> dict[str, str]:
    """What a result depends on besides its settings."""
    return {"command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]), "commit": commit(),
            "torch": str(torch.__version__), "python": platform.python_version(), "device": device}


def commit() -> str:
    """The repository's commit, with "+changes" if files differ from it; "unknown" outside a repository."""
    def git(*args: str) -> str:
        root = Path(__file__).parent.parent
        return subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
