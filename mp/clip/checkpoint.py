"""Read what people keep CLIP's weights in: OpenAI's TorchScript archive, a checkpoint of torch.save, the miniature's
arrays. Nothing in a file is ever executed.
"""
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mp.runtime import torchfile
from mp.runtime.errors import UserError, unreadable
from mp.runtime.torchfile import Inert

State = dict[str, Tensor]
ADVICE = ("give what torch.save(model.state_dict(), FILE) writes of a ViT CLIP with OpenAI's names, or no --weights: "
          "OpenAI's own are fetched then")
FOREIGN = (  # of files that aren't torch's: an offset, the bytes that stand there, and what the file then is
    (0, b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file itself)"),
    (0, b"<", "a web page (save the file that it offers)"),
    (8, b"{", "a safetensors file (if it has OpenAI's names: torch.save(safetensors.torch.load_file(FILE), NEW))"))


def not_clip(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; {ADVICE}")


def read_content(path: Path) -> Any:
    """Return what is in the file, without running anything of it. Raises UserError if it can't be read."""
    entries = []
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.namelist()
        if path.suffix == ".npz" or any(entry.endswith(".npy") for entry in entries):
            return read_arrays(path)
        if any(entry.endswith(torchfile.SCRIPT) for entry in entries):
            return read_archive(path)
        return torchfile.load(path)
    except Exception as e:  # damaged bytes may raise anything
        kind = "" if isinstance(e, OSError) else foreign_kind(path, entries)
        if kind:
            raise not_clip(path, f"not a readable weights file but {kind}") from None
        raise UserError(unreadable(path, e, "not a readable weights file", ADVICE)) from None


def foreign_kind(path: Path, entries: list[str]) -> str:
    """Return what a file is that isn't torch's, by the entries of a zip archive or how it begins; "" if unknown."""
    if entries and not any(entry.endswith(("data.pkl", ".npy")) for entry in entries):
        return f"a zip archive of {', '.join(entries[:3])} (unpack it)"
    with open(path, "rb") as file:
        head = file.read(64)
    for offset, mark, kind in FOREIGN:
        if head[offset:].startswith(mark):
            return kind
    return "" if head else "an empty file"


def flat(content: dict, folder: str = "", depth: int = 8) -> dict[str, Any]:
    """Return all entries of dicts in dicts, by names such as "model/state_dict/logit_scale", and the attributes of an
    archive's modules, by names such as "visual.proj"."""
    entries = {}
    for name, value in content.items():
        if isinstance(value, dict) and depth:
            separator = "." if isinstance(value, Inert) else "/"
            entries |= flat(value, f"{folder}{name}{separator}", depth - 1)
        else:
            entries[f"{folder}{name}"] = value
    return entries


def read_archive(path: Path) -> Inert:
    """Return the attributes of the modules in OpenAI's archive; "activation" is GELU if the text of its code names
    that."""
    module = torchfile.load(path, script=True)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py") and b"torch.gelu(" in archive.read(name):
                module["activation"] = "GELU"
    return module


def read_arrays(path: Path) -> State:
    """Return the state dict in the miniature's arrays, which hold some tokens' embeddings; the others are zero."""
    with np.load(path, allow_pickle=False) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    rows, ids = state.pop("token_embedding.rows"), state.pop("token_embedding.ids")
    table = torch.zeros(int(state.pop("vocab_size")), rows.shape[1], dtype=rows.dtype)
    table[ids] = rows
    return state | {"token_embedding.weight": table}


def write_arrays(path: Path, state: State, token_ids: list[int]) -> None:
    """Write a CLIP's state dict in half precision, with the embeddings of `token_ids` alone."""
    arrays = {name: value.detach().half().numpy() for name, value in state.items()}
    table = arrays.pop("token_embedding.weight")
    ids = np.array(sorted(token_ids))
    arrays |= {"token_embedding.rows": table[ids], "token_embedding.ids": ids, "vocab_size": np.array(len(table))}
    np.savez_compressed(path, **arrays)
