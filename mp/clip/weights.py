"""Weights files: OpenAI's TorchScript archive, a state dict or a checkpoint around it, or the miniature's arrays."""
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mp.clip import download
from mp.clip.tokenizer import CONTEXT_LENGTH, VOCABULARY
from mp.runtime import tensors
from mp.runtime.errors import UserError, unreadable

State = dict[str, Tensor]
NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # further tensors in OpenAI's files
STORAGES = {"FloatStorage": torch.float, "HalfStorage": torch.half, "BFloat16Storage": torch.bfloat16,
            "DoubleStorage": torch.double, "LongStorage": torch.long}
ADVICE = ("give what torch.save(model.state_dict(), FILE) writes of a ViT CLIP with OpenAI's names, or OpenAI's own "
          f"file: {download.URL}")
TRACE = "/constants.pkl"  # only TorchScript's archives have it
PATCHES = "visual.conv1.weight"  # every CLIP has it
# No tensor tells how wide the heads are. 64 they are in OpenAI's ViT-B/32, B/16, L/14 and L/14@336px (values in the
# order of `sizes`), and in towers no wider than the miniature's.
OPENAIS = ((224, 32, 768, 12, 512, 12, 512), (224, 16, 768, 12, 512, 12, 512),
           (224, 14, 1024, 24, 768, 12, 768), (336, 14, 1024, 24, 768, 12, 768))
SMALL = 128
FOREIGN_BYTES = (  # where in a file that torch can't read, which bytes, and what it then is
    (0, b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file itself)"),
    (0, b"<", "a web page (save the file that it offers)"),
    (0, b"\x1f\x8b", "a gzip archive (unpack it)"),
    (257, b"ustar", "a tar archive (unpack it)"),
    (0, b"\x08", "an ONNX model"),
    (2, b"\x95", "a pickle that torch.save didn't write"),
    (8, b"{", "a safetensors file (if it has OpenAI's names: torch.save(safetensors.torch.load_file(FILE), NEW))"))
FOREIGN_NAMES = {  # a part of a tensor's name, and what has it
    ".ctx.": "learnt prompts, not CLIP's weights (this project's go after --prompt or --init)",
    ".vision_model.": "CLIP's weights by Hugging Face's names, which aren't OpenAI's",
    ".visual.layer1.": "a ResNet CLIP, not a ViT"}


def read_state(path: Path) -> State:
    """CLIP's parameters in the file `path`, by OpenAI's names, in float32.

    Raises UserError if it can't be read, holds something else, or states that it isn't computed as OpenAI's.
    """
    if not path.exists():
        raise UserError(f"{path}: no such weights file; give another after --weights")
    content = read_content(path)
    entries = flat(content) if isinstance(content, dict) else {}
    state = find_state(entries, path)
    for name, value in state.items():
        if not value.is_floating_point() or value.layout != torch.strided or value.is_meta:
            raise not_clip(path, f"{name} is no plain tensor of floating-point numbers")
    refuse_unlike_openais(entries, sizes(state, path), path)
    return {k: v.detach().float().contiguous() for k, v in state.items()}


def read_content(path: Path) -> Any:
    """What is in the file, read without running anything of it. Raises UserError if it can't be read."""
    inside = []
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                inside = archive.namelist()
        if path.suffix == ".npz" or any(name.endswith(".npy") for name in inside):
            return read_arrays(path)
        if any(name.endswith(TRACE) for name in inside):
            return read_archive(path)
        return tensors.load(path)
    except tensors.Objects as e:
        raise not_clip(path, f"holds {e}, as of a whole model or a trainer's settings, which aren't loaded") from None
    except Exception as e:  # there is nothing that damaged bytes don't raise
        what = "" if isinstance(e, OSError) else foreign(path, inside)
        if what:
            raise not_clip(path, f"not a readable weights file but {what}") from None
        raise UserError(unreadable(path, e, "not a readable weights file", ADVICE)) from None


def foreign(path: Path, inside: list[str]) -> str:
    """What a file that isn't torch's is, by how it begins or what is `inside` a zip archive; "" if it isn't known."""
    if inside and not any(name.endswith(("data.pkl", ".npy")) for name in inside):
        return f"a zip archive of {', '.join(inside[:3])} (unpack it)"
    with open(path, "rb") as f:
        head = f.read(512)
    for offset, mark, what in FOREIGN_BYTES:
        if head[offset:].startswith(mark):
            return what
    return "" if head else "an empty file"


def flat(content: dict, folder: str = "", depth: int = 6) -> dict[str, Any]:
    """What a checkpoint's dicts hold, by names such as "model/state_dict/logit_scale"; down to `depth` dicts."""
    entries = {}
    for name, value in content.items():
        if isinstance(value, dict) and depth:
            entries |= flat(value, f"{folder}{name}/", depth - 1)
        else:
            entries[f"{folder}{name}"] = value
    return entries


def find_state(entries: dict[str, Any], path: Path) -> State:
    """CLIP's tensors in a checkpoint, from the dict that holds PATCHES, without what stands before its name there."""
    for part, what in FOREIGN_NAMES.items():
        if any(part in f".{name.replace('/', '.')}." for name in entries):
            raise not_clip(path, f"holds {what}")
    values = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    if not values:
        raise not_clip(path, "holds no state dict (a dict of tensors)")
    places = [name.removesuffix(PATCHES) for name in values if name.endswith(PATCHES)] or [""]
    if len(places) > 1:
        raise not_clip(path, f"holds several CLIPs, below {', '.join(places[:3])}")
    folder = places[0].rpartition("/")[0]
    state = {}
    for name, value in values.items():
        if name.rpartition("/")[0] == folder and name.rpartition(".")[2] not in NOT_PARAMETERS:
            own = name.removeprefix(places[0]) if name.startswith(places[0]) else f"beside it: {name}"
            state[own] = value
    return state


def refuse_unlike_openais(entries: dict[str, Any], shape: dict[str, int], path: Path) -> None:
    """Raises UserError for a file that states what its tensors can't tell: heads that aren't 64 wide, or GELU.

    open_clip's training files state their model in "name"; it has GELU, unless it ends in -quickgelu.
    """
    heads = [shape["image_width"] // 64, shape["text_width"] // 64]
    for name, value in entries.items():
        if not isinstance(value, (int, str)):
            continue
        key = name.replace("/", ".").rpartition(".")[2].lower()
        text = f"{key} = {value}".lower()
        other_heads = key.endswith("heads") and value not in heads or key in ("head_width", "head_dim") and value != 64
        activation = "gelu" in text or key in ("act", "activation", "hidden_act") or key == "name" and "vit-" in text
        if other_heads or activation and ("quick" not in text or value is False):
            raise not_clip(path, f"states {text[:60]}, but here CLIP is computed with QuickGELU and 64-wide heads")


def not_clip(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; {ADVICE}")


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
        content = self.archive.read(f"{self.folder}/data/{key}")
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def read_archive(path: Path) -> dict[str, Any]:
    """The state dict of OpenAI's archive: all tensors, named by the attributes that lead to them.

    Beside them stands what else the archive states: numbers and words, and whether its code, read as text, has GELU.
    """
    state = {}

    def collect(value, name: str) -> None:
        if isinstance(value, (Tensor, str)) or type(value) is int:
            state[name] = value
        elif isinstance(value, Inert):
            for key, inner in value.attributes.items():
                collect(inner, f"{name}.{key}" if name else key)

    with zipfile.ZipFile(path) as archive:
        trace = next(name for name in archive.namelist() if name.endswith(TRACE))
        collect(ArchiveReader(archive, trace.removesuffix(TRACE)).load(), "")
        for name in archive.namelist():
            if name.endswith(".py") and b"torch.gelu(" in archive.read(name):
                state["activation"] = "GELU"
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
    """CLIP's constructor arguments, read off the tensors' shapes. Raises UserError if they aren't a known ViT's."""
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
    if (vocabulary, context) != (VOCABULARY, CONTEXT_LENGTH):
        raise not_clip(path, f"{vocabulary} tokens and {context} positions; CLIP has {VOCABULARY} and {CONTEXT_LENGTH}")
    shape = dict(image_size=grid * patch, patch=patch,
                 image_width=width, image_layers=layers(state, "visual.transformer"),
                 text_width=text_width, text_layers=layers(state, "transformer"), embed=embed)
    small = all(shape.values()) and not width % 64 and not text_width % 64 and max(width, text_width) <= SMALL
    if not small and tuple(shape.values()) not in OPENAIS:
        raise not_clip(path, f"widths {width} and {text_width}, {grid} by {grid} patches of {patch} pixels; only of "
                             "OpenAI's ViTs (B/32, B/16, L/14, L/14@336px) it is known that the heads are 64 wide")
    return shape


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
            raise not_clip(path, f"{name} holds NaN or infinite values")
