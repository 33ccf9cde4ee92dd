"""Prompt files: a method, its learnable tensors, and what made them."""
import hashlib
from pathlib import Path

from torch import Tensor

from mp.runtime import tensors
from mp.runtime.errors import UserError


def write(path: Path, method: str, params: dict[str, Tensor], made_by: dict) -> None:
    """A prompt file: the method, its learnable tensors, and the settings and provenance that made them."""
    tensors.write(path, {"method": method, "params": {k: v.detach().cpu() for k, v in params.items()},
                         "made_by": made_by})


def read(path: Path, method: str, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a prompt file, once they fit `method` and the shapes of `expected`.

    Raises UserError that says what differs: the method, a tensor's shape (width or length), or the depth.
    """
    file = tensors.read(path)
    if not isinstance(file.get("method"), str) or not isinstance(file.get("params"), dict):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one")
    if file["method"] != method:
        raise UserError(f"{path}: made for --method {file['method'][:40]}, not {method}; give that method, or another file")
    params = file["params"]
    if params.keys() != expected.keys():
        raise UserError(f"{path}: holds the tensors {', '.join(map(str, params))}; this model and --depth "
                        f"need {', '.join(expected)}")
    if wrong := tensors.mismatch(params, expected):
        raise UserError(f"{path}: {wrong}; it is damaged, or was made for another model or --length: give another, or "
                        "make it again with `run.py meta --force`")
    return params


def sha256(path: Path) -> str:
    """The hash of a prompt's method and tensors. What made it, such as the command line, doesn't count."""
    file = tensors.read(path)
    digest = hashlib.sha256(repr(file.get("method")).encode())
    try:
        for name, p in file["params"].items():
            digest.update(f"{name} {p.dtype} {list(p.shape)}".encode() + p.detach().double().numpy().tobytes())
    except (LookupError, AttributeError, TypeError, RuntimeError):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one") from None
    return digest.hexdigest()
