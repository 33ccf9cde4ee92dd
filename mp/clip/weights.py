"""Load CLIP's weights: find them in what a file holds; refuse all but a CLIP's that is computed as OpenAI's."""
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mp.clip import CONTEXT_LENGTH, VOCABULARY
from mp.clip.checkpoint import State, flat, not_clip, read_content
from mp.clip.model import CLIP
from mp.runtime.device import MEMORY
from mp.runtime.errors import UserError
from mp.runtime.files import sha256

NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # further tensors in OpenAI's files
PATCHES = "visual.conv1.weight"  # every CLIP has it
# No tensor tells how wide a tower's heads are. They are 64 wide in OpenAI's, of these widths and numbers of layers, and
# in all narrower towers that are published; not so in ViT-H, g and bigG.
OPENAIS = ((512, 12), (768, 12), (1024, 24))
GELU = re.compile("(?<!quick)(?<!quick.)gelu")
# open_clip's models, such as ViT-L-14-336, have GELU unless -quickgelu follows; OpenAI's is ViT-B/16, its file
# ViT-B-16.pt. (The \d in the last part keeps a part of a number from being taken for a name's end.)
OPEN_CLIPS = re.compile(r"vit-\w+(-\d+)+(?!\d|-\d|-quickgelu|(px)?\.pt)")
FOREIGN_NAMES = {  # a part of a tensor's name, and what has it
    ".ctx.": "learnt prompts, not CLIP's weights (this project's go after --prompt or --init)",
    ".vision_model.": "CLIP's weights by Hugging Face's names, which aren't OpenAI's",
    ".visual.layer1.": "a ResNet CLIP, not a ViT"}


def load(path: str | Path, device: str | torch.device = "cpu", half: torch.dtype | None = None,
         memory: int = MEMORY, kind: type[CLIP] = CLIP) -> CLIP:
    """Return a frozen float32 CLIP on `device`, from OpenAI's archive, a state dict or a checkpoint, or an .npz file.

    `half`: passes that need no gradient run in this type, by autocast. `memory`: bytes that one pass may keep
    for its gradient; larger ones are computed in chunks. `kind`: CLIP, or one that computes otherwise.
    Raises UserError that says what is missing or wrong if the file isn't a ViT CLIP's of a known shape, or states GELU
    or other heads. Weights trained with GELU that don't state it can't be told apart, and compute wrongly.
    """
    path = Path(path)
    state = read_state(path)
    with torch.device("meta"):  # no memory for parameters that are about to be replaced
        clip = kind(**sizes(state, path))
    check(state, {name: value.shape for name, value in clip.state_dict().items()}, path)
    clip.load_state_dict(state, assign=True)
    clip.half_type = half
    clip.memory = memory
    clip.sha256 = sha256(path)
    return clip.to(device).eval().requires_grad_(False)


def read_state(path: Path) -> State:
    """Return CLIP's parameters in the file, by OpenAI's names, in float32.

    Raises UserError if it can't be read, holds something else, or states that it isn't computed as OpenAI's.
    """
    if not path.exists():
        raise UserError(f"{path}: no such weights file; give another after --weights")
    if path.is_dir():
        raise not_clip(path, "a folder, not a weights file")
    content = read_content(path)
    entries = flat(content) if isinstance(content, dict) else {}
    state = find_state(entries, path)
    for name, value in state.items():
        if not value.is_floating_point() or value.layout != torch.strided or value.is_meta:
            raise not_clip(path, f"{name} is no plain tensor of floating-point numbers")
    shape = sizes(state, path)
    for name, value in entries.items():
        if isinstance(value, (int, str)) and contradicts(name, value, shape):
            raise not_clip(path, f"states {name} = {str(value)[:40]}, but here CLIP is computed with QuickGELU and "
                                 "64-wide heads")
    return {name: value.detach().float().contiguous() for name, value in state.items()}


def find_state(entries: dict[str, Any], path: Path) -> State:
    """Return CLIP's tensors in a checkpoint: the entries of the dict that holds PATCHES, without what stands before its
    name there."""
    for part, what in FOREIGN_NAMES.items():
        if any(part in f".{name.replace('/', '.')}." for name in entries):
            raise not_clip(path, f"holds {what}")
    values = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    if not values:
        raise not_clip(path, "holds no state dict (a dict of tensors)")
    prefixes = [name.removesuffix(PATCHES) for name in values if name.endswith(PATCHES)] or [""]
    if len(prefixes) > 1:
        raise not_clip(path, f"holds several CLIPs, below {', '.join(prefixes[:3])}")
    prefix = prefixes[0]
    state = {}
    for name, value in values.items():
        is_in_same_dict = name.rpartition("/")[0] == prefix.rpartition("/")[0]
        if is_in_same_dict and name.rpartition(".")[2] not in NOT_PARAMETERS:
            inner_name = name.removeprefix(prefix) if name.startswith(prefix) else f"beside it: {name}"
            state[inner_name] = value
    return state


def contradicts(name: str, value: int | str, shape: dict[str, int]) -> bool:
    """Return whether something beside the tensors states what they can't tell: heads of another width, or GELU."""
    name = name.replace("/", ".").rpartition(".")[2].lower()
    if name.endswith("heads"):
        return value not in (shape["image_width"] // 64, shape["text_width"] // 64)
    if name in ("head_width", "head_dim"):
        return value != 64
    if "gelu" in name and isinstance(value, bool):
        return value != ("quick" in name)
    text = str(value).lower()
    is_other_function = name in ("act", "activation", "hidden_act") and "gelu" not in text
    return is_other_function or bool(GELU.search(text) or OPEN_CLIPS.search(text))


def sizes(state: State, path: Path) -> dict[str, int]:
    """Return CLIP's constructor arguments, by the tensors' shapes. Raises UserError if they aren't a known ViT's."""
    try:
        width, _, patch, _ = state[PATCHES].shape
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
    shape = dict(image_size=grid * patch, patch=patch, image_width=width,
                 image_layers=count_layers(state, "visual.transformer"), text_width=text_width,
                 text_layers=count_layers(state, "transformer"), embed=embed)
    if 0 in shape.values():
        raise not_clip(path, f"not CLIP's weights, {min(shape, key=shape.get)} is 0")
    for tower in ("image", "text"):
        width, layers = shape[f"{tower}_width"], shape[f"{tower}_layers"]
        is_narrow = width < min(OPENAIS)[0] and width % 64 == 0
        if not is_narrow and (width, layers) not in OPENAIS:
            raise not_clip(path, f"a tower {width} wide with {layers} layers; only of OpenAI's ViTs (B/32, B/16, L/14, "
                                 "L/14@336px) it is known that the heads are 64 wide")
    return shape


def count_layers(state: State, tower: str) -> int:
    """Return how many layers a tower has, by the numbers in names such as transformer.resblocks.11.ln_1.weight."""
    prefix = f"{tower}.resblocks."
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def check(state: State, expected: dict[str, torch.Size], path: Path) -> None:
    """Check names, shapes and finite values, before anything is copied. Raises UserError that names what is wrong."""
    for names, trouble in ((expected.keys() - state.keys(), "missing"), (state.keys() - expected.keys(), "not known")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise not_clip(path, f"not CLIP's weights, {', '.join(sorted(names)[:3])}{more} {trouble}")
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise not_clip(path, f"{name} has shape {list(state[name].shape)}, expected {list(shape)}")
        if not state[name].isfinite().all():
            raise not_clip(path, f"{name} holds NaN or infinite values")
