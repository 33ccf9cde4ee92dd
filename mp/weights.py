"""Weights files: OpenAI's TorchScript archive, a plain state dict, or the miniature's arrays."""
import pickle
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mp.errors import UserError

NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size")  # extra entries of OpenAI's files


def read_state(path: Path) -> dict[str, Tensor]:
    """CLIP's parameters in the file `path`, by OpenAI's names. Raises UserError if it can't be read."""
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        if path.suffix == ".npz":
            return read_arrays(path)
        if is_torchscript(path):  # runs the archive's own code, so only for this one form
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                state = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, LookupError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile,
            zlib.error, pickle.UnpicklingError) as e:
        reason = (str(e) or type(e).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable weights file ({reason[:120]}); fetch it again") from None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: holds no state dict (a dict of tensors)")
    return {k: v for k, v in state.items() if k not in NOT_PARAMETERS}


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_arrays(path: Path) -> dict[str, Tensor]:
    """A state dict as compressed arrays. Only the token rows that were trained are stored; the rest are zero."""
    with np.load(path, allow_pickle=False) as arrays:
        state = {k: torch.from_numpy(arrays[k]) for k in arrays.files}
    rows, ids = state.pop("token_embedding.rows"), state.pop("token_embedding.ids")
    table = torch.zeros(int(state.pop("vocab_size")), rows.shape[1], dtype=rows.dtype)
    table[ids] = rows
    return state | {"token_embedding.weight": table}


def write_arrays(path: Path, state: dict[str, Tensor], token_ids: list[int]) -> None:
    """Write a CLIP's state dict in half precision, with the embeddings of `token_ids` alone."""
    arrays = {k: v.detach().half().numpy() for k, v in state.items()}
    table = arrays.pop("token_embedding.weight")
    ids = np.array(sorted(token_ids))
    np.savez_compressed(path, **arrays, **{"token_embedding.rows": table[ids], "token_embedding.ids": ids,
                                          "vocab_size": np.array(len(table))})


def sizes(state: dict[str, Tensor], path: Path) -> dict[str, int]:
    """CLIP's constructor arguments, read off the tensors' shapes."""
    def layers(prefix: str) -> int:
        return len({k.removeprefix(prefix).split(".")[0] for k in state if k.startswith(prefix)})

    if any(k.startswith("visual.layer1") for k in state):
        raise UserError(f"{path}: a ResNet CLIP; this project needs a ViT, such as ViT-B/16")
    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        vocabulary, text_width = state["token_embedding.weight"].shape
        if width % 64 or text_width % 64:
            raise UserError(f"{path}: widths {width} and {text_width}; CLIP's heads are 64 wide")
        return dict(image_size=grid * patch, patch=patch, image_width=width,
                    image_layers=layers("visual.transformer.resblocks."), text_width=text_width,
                    text_layers=layers("transformer.resblocks."), embed=state["text_projection"].shape[1],
                    vocabulary=vocabulary, context=len(state["positional_embedding"]))
    except KeyError as e:
        raise UserError(f"{path}: not CLIP's weights, {e.args[0]} is missing") from None
    except (ValueError, IndexError):
        raise UserError(f"{path}: not CLIP's weights, a tensor has an unexpected number of dimensions") from None


def check(state: dict[str, Tensor], expected: dict[str, torch.Size], path: Path) -> None:
    """Names, shapes and finite values, before anything is copied."""
    def some(names: set[str]) -> str:
        return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    if missing := expected.keys() - state.keys():
        raise UserError(f"{path}: not CLIP's weights, {some(missing)} missing")
    if unknown := state.keys() - expected.keys():
        raise UserError(f"{path}: not CLIP's weights, {some(unknown)} not known")
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise UserError(f"{path}: {name} has shape {list(state[name].shape)}, expected {list(shape)}")
        if not state[name].isfinite().all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; fetch the file again")
