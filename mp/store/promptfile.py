"""Prompt files: a method, its learnable tensors, and what made them."""
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mp.runtime import tensors
from mp.runtime.errors import UserError

Params = dict[str, Tensor]


def write(path: Path, method: str, params: Params, identity: dict[str, Any], provenance: dict[str, Any]) -> None:
    """What the tensors were made from is `identity`, as mp/store/identity.py keeps it; who made them, `provenance`."""
    on_cpu = {k: v.detach().cpu() for k, v in params.items()}
    tensors.write(path, {"method": method, "params": on_cpu, "identity": identity, "provenance": provenance})


def read_file(path: Path) -> dict[str, Any]:
    """All that is in a prompt file. Raises UserError if it isn't one."""
    file = tensors.read(path)
    params = file.get("params")
    good = isinstance(file.get("method"), str) and isinstance(params, dict) and params
    if not good or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in params.items()):
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one")
    return file


def read(path: Path, method: str, expected: Params) -> Params:
    """The tensors of a prompt file, once they fit `method` and the shapes of `expected`, in its order.

    Raises UserError that says what differs: the method, a tensor's shape (width or length), or the depth.
    """
    file = read_file(path)
    if file["method"] != method:
        raise UserError(f"{path}: made for --method {file['method'][:40]}, not {method}; give that method, or another "
                        "file")
    params = file["params"]
    if params.keys() != expected.keys():
        raise UserError(f"{path}: holds the tensors {', '.join(params)}; this model and --depth need "
                        f"{', '.join(expected)}")
    if wrong := tensors.mismatch(params, expected):
        raise UserError(f"{path}: {wrong}; it is damaged, or was made for another model or --length: give another, or "
                        "make it again with `run.py meta --force`")
    return {name: params[name] for name in expected}


def fingerprint(path: Path) -> str:
    """SHA-256 of a prompt's method and tensors, whatever their order. What made it doesn't count."""
    file = read_file(path)
    digest = hashlib.sha256(repr(file["method"]).encode())
    for name, tensor in sorted(file["params"].items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        try:
            digest.update(tensor.detach().to(torch.float64).numpy().tobytes())
        except (RuntimeError, TypeError):
            raise UserError(f"{path}: not a prompt file, {name} isn't a plain tensor; `run.py meta` writes "
                            "one") from None
    return digest.hexdigest()
