"""Weights files: OpenAI's TorchScript archive, a plain state dict, or the miniature's arrays."""
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mp.clip.tokenizer import CONTEXT_LENGTH, VOCABULARY
from mp.runtime import tensors
from mp.runtime.errors import UserError, unreadable

State = dict[str, Tensor]
NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # further tensors in OpenAI's files
STORAGES = {"FloatStorage": torch.float, "HalfStorage": torch.half, "LongStorage": torch.long}
TRACE = "/constants.pkl"  # only TorchScript's archives have it


def read_state(path: Path) -> State:
    """CLIP's parameters in the file `path`, by OpenAI's names, in float32. Raises UserError if it can't be read."""
    if not path.exists():
        raise UserError(f"{path}: no such weights file; give another after --weights")
    try:
        if path.suffix == ".npz":
            state = read_arrays(path)
        elif is_torchscript(path):
            state = read_archive(path)
        else:
            state = tensors.load(path)
    except Exception as e:  # there is nothing that damaged bytes don't raise
        raise UserError(unreadable(path, e, "not a readable weights file", "fetch it again")) from None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise not_clip(path, "holds no state dict (a dict of tensors)")
    state = {str(k): v for k, v in state.items() if str(k).rpartition(".")[2] not in NOT_PARAMETERS}
    for name, value in state.items():
        if not value.is_floating_point() or value.layout != torch.strided or value.is_meta:
            raise not_clip(path, f"{name} is no plain tensor of floating-point numbers")
    return {k: v.float() for k, v in state.items()}


def not_clip(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; give another file")


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(TRACE) for name in archive.namelist())


class Inert:
    """Stands for every class that an archive names, such as its modules': keeps its attributes and does nothing."""

    def __init__(self, *_):
        self.attributes = {}

    def __setstate__(self, attributes):
        self.attributes = attributes if isinstance(attributes, dict) else {}


class ArchiveReader(pickle.Unpickler):
    """The tensors of a TorchScript archive, read as data: torch.jit.load would run code that it brings along."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: storage.as_strided(size, stride, offset)
        return STORAGES.get(name, Inert)

    def persistent_load(self, about) -> Tensor:
        """The flat tensor of one storage, which `about` names: a word, its type, its file, its device, its length."""
        _, dtype, key, _, _ = about
        return torch.frombuffer(bytearray(self.archive.read(f"{self.folder}/data/{key}")), dtype=dtype)


def read_archive(path: Path) -> State:
    """The state dict of OpenAI's archive: all tensors, named by the attributes that lead to them."""
    state = {}

    def collect(value, name: str) -> None:
        if isinstance(value, Tensor):
            state[name] = value
        elif isinstance(value, Inert):
            for key, inner in value.attributes.items():
                collect(inner, f"{name}.{key}" if name else key)

    with zipfile.ZipFile(path) as archive:
        trace = next(name for name in archive.namelist() if name.endswith(TRACE))
        collect(ArchiveReader(archive, trace.removesuffix(TRACE)).load(), "")
    return state


def read_arrays(path: Path) -> State:
    """A state dict as compressed arrays. Only the token rows that were trained are stored; the rest are zero."""
    with np.load(path, allow_pickle=False) as arrays:
        state = {k: torch.from_numpy(arrays[k]) for k in arrays.files}
    if missing := {"token_embedding.rows", "token_embedding.ids", "vocab_size"} - state.keys():
        raise ValueError(f"arrays without {min(missing)}, not in the miniature's form")
    rows, ids = state.pop("token_embedding.rows"), state.pop("token_embedding.ids")
    table = torch.zeros(int(state.pop("vocab_size")), rows.shape[1], dtype=rows.dtype)
    table[ids] = rows
    return state | {"token_embedding.weight": table}


def write_arrays(path: Path, state: State, token_ids: list[int]) -> None:
    """Write a CLIP's state dict in half precision, with the embeddings of `token_ids` alone."""
    arrays = {k: v.detach().half().numpy() for k, v in state.items()}
    table = arrays.pop("token_embedding.weight")
    ids = np.array(sorted(token_ids))
    arrays |= {"token_embedding.rows": table[ids], "token_embedding.ids": ids, "vocab_size": np.array(len(table))}
    np.savez_compressed(path, **arrays)


def sizes(state: State, path: Path) -> dict[str, int]:
    """CLIP's constructor arguments, read off the tensors' shapes. Raises UserError if they aren't a ViT CLIP's."""
    if any(k.startswith("visual.layer1") for k in state):
        raise UserError(f"{path}: a ResNet CLIP; give a ViT, such as ViT-B/16")
    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        vocabulary, text_width = state["token_embedding.weight"].shape
        context = len(state["positional_embedding"])
        embed = state["text_projection"].shape[1]
    except KeyError as e:
        raise not_clip(path, f"not CLIP's weights, {e.args[0]} is missing") from None
    except (ValueError, IndexError, TypeError):
        raise not_clip(path, "not CLIP's weights, a tensor has an unexpected number of dimensions") from None
    if width % 64 or text_width % 64 or 0 in (width, text_width, patch, grid):
        raise not_clip(path, f"widths {width} and {text_width}, {grid} by {grid} patches of {patch} pixels; not "
                             "CLIP's weights, whose heads are 64 wide")
    if (vocabulary, context) != (VOCABULARY, CONTEXT_LENGTH):
        raise not_clip(path, f"{vocabulary} tokens and {context} positions; CLIP has {VOCABULARY} and {CONTEXT_LENGTH}")
    return dict(image_size=grid * patch, patch=patch,
                image_width=width, image_layers=layers(state, "visual.transformer"),
                text_width=text_width, text_layers=layers(state, "transformer"), embed=embed)


def layers(state: State, tower: str) -> int:
    """How many layers a tower has, by the numbers in names such as transformer.resblocks.11.ln_1.weight."""
    prefix = f"{tower}.resblocks."
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def check(state: State, expected: dict[str, torch.Size], path: Path) -> None:
    """Names, shapes and finite values, before anything is copied. Raises UserError that names what is wrong."""
    for names, trouble in ((expected.keys() - state.keys(), "missing"), (state.keys() - expected.keys(), "not known")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise not_clip(path, f"not CLIP's weights, {', '.join(sorted(names)[:3])}{more} {trouble}")
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise not_clip(path, f"{name} has shape {list(state[name].shape)}, expected {list(shape)}")
        if not state[name].isfinite().all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; fetch the file again")
