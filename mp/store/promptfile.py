"""Prompt files: a method, its learnable tensors, and what made them."""
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mp.runtime import tensors
from mp.runtime.errors import UserError

Params = dict[str, Tensor]
ADVICE = "give a prompt that `run.py meta` or `finetune` wrote, or the command that made it again with --force"


def write(path: Path, method: str, params: Params, identity: dict[str, Any], provenance: dict[str, Any],
          regulator: Params = {}) -> None:
    """What the tensors were made from is `identity`, as mp/store/identity.py keeps it; who made them, `provenance`.
    `regulator`: the tensors φ of one that was learnt with them."""
    def on_cpu(some: Params) -> Params:
        return {k: v.detach().cpu() for k, v in some.items()}

    content = {"method": method, "params": on_cpu(params), "identity": identity, "provenance": provenance}
    if regulator:
        content["regulator"] = on_cpu(regulator)
    tensors.write(path, content)


def read_file(path: Path) -> dict[str, Any]:
    """All that is in a prompt file. Raises UserError if it isn't one."""
    file = tensors.read(path, ADVICE)
    if "state_dict" in file:
        raise UserError(f"{path}: {tensors.FOREIGN}; {ADVICE}")
    params, regulator = file.get("params"), file.get("regulator", {})
    good = isinstance(file.get("method"), str) and is_params(params) and params and is_params(regulator)
    if not good:
        raise UserError(f"{path}: not a prompt file; `run.py meta` writes one")
    return file


def is_params(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def fitted(path: Path, made_for: str, params: Params, method: str, expected: Params) -> Params:
    """A file's tensors in the order of `expected`, once they fit its shapes, and the method is the one asked for.

    Raises UserError that says what differs: the method, a tensor's shape (width or length), or the depth.
    """
    if made_for != method:
        raise UserError(f"{path}: made for --method {made_for[:40]}, not {method}; give that method, or another file")
    if params.keys() != expected.keys():
        layers, wanted = depth(params), depth(expected)
        if layers and wanted and layers != wanted:
            raise UserError(f"{path}: holds prompts for {layers} layers, not {wanted}; give --depth {layers}, and "
                            "weights of at least so many layers")
        raise UserError(f"{path}: holds the tensors {', '.join(params)}, and this method needs {', '.join(expected)}; "
                        "give another, or leave out the options of its shape, which follow from the file")
    if wrong := tensors.mismatch(params, expected):
        raise UserError(f"{path}: {wrong}; {remedy(params, expected)}")
    return {name: params[name] for name in expected}


def depth(names: Iterable[str]) -> int:
    """How many layers have prompts, by names such as text.8 and proj.8.bias; 0 for a method without such."""
    parts = ".".join(names).split(".")
    layers = [int(part) for part in parts if part.isdecimal() and len(part) < 10]
    return max(layers, default=-1) + 1


def remedy(params: Params, expected: Params) -> str:
    """What to do about tensors that don't fit: another --length, other weights, or another file."""
    if any(params[name].shape[1:] != expected[name].shape[1:] for name in expected):
        return "it was made for another model: give the --weights that it was made with, or another prompt"
    if "ctx" in expected and len(params["ctx"]) != len(expected["ctx"]):
        return f"give --length {len(params['ctx'])}"
    if any(params[name].dtype != expected[name].dtype for name in expected):
        return "give a file whose tensors are all float32"
    return "it is damaged, or not of this method: give another, or the command that made it again with --force"


def fingerprint(path: Path) -> str:
    file = read_file(path)
    return digest(path, file["method"], file["params"] | file.get("regulator", {}))


def digest(path: Path, method: str, params: Params) -> str:
    """SHA-256 of a prompt's method and tensors, whatever their order. What made it doesn't count.

    Raises UserError for a tensor that isn't a plain one.
    """
    found = hashlib.sha256(repr(method).encode())
    for name, tensor in sorted(params.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        try:
            found.update(tensor.detach().to(torch.float64).numpy().tobytes())
        except (RuntimeError, TypeError):
            raise UserError(f"{path}: not a prompt file, {name} isn't a plain tensor; `run.py meta` writes "
                            "one") from None
    return found.hexdigest()


def is_whole(path: Path, identity: dict[str, Any]) -> bool:
    """Whether the content of a prompt file is undamaged and of this identity. Raises OSError and MemoryError."""
    try:
        content = tensors.load(path)
    except ValueError:
        return False
    if not isinstance(content, dict) or content.get("method") != identity["settings"]["method"]:
        return False
    of_identity = not tensors.mismatch(content.get("identity"), identity) and content["identity"] == identity
    provenance = content.get("provenance")
    return of_identity and isinstance(provenance, dict) and is_plain(provenance) and has_numbers(content.get("params"))


def is_plain(value: Any) -> bool:
    """Whether a value from a file holds only what JSON knows, so that it can be compared, and written into results."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def has_numbers(params: Any) -> bool:
    """Whether these are tensors as they are learnt: plain ones of float32, all finite."""
    if not (is_params(params) and params):
        return False
    like = {name: torch.empty(tensor.shape, device="meta") for name, tensor in params.items()}
    return not tensors.mismatch(params, like)
