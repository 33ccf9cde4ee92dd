"""Prompts in the files of the methods' own code: which method they are of, and their tensors by our names."""
from typing import NamedTuple

from torch import Tensor

from mp.clip.model import CLIP
from mp.learners import METHODS, learner_class
from mp.runtime.errors import UserError

NEAR = 0.005  # of a tensor's largest value: as far as an average over epochs, in half precision, may move a frozen one
TOWERS = {"image_encoder.": "visual.", "text_encoder.": "", "logit_scale": "logit_scale"}  # how names begin, and CLIP's
BESIDE = ("token_prefix", "token_suffix", "prompt_learner.token_prefix", "prompt_learner.token_suffix",
          "prompt_learner.ZS_image_encoder.")  # of the training's classes, and another frozen tower: left out


class Published(NamedTuple):
    method: str
    params: dict[str, Tensor]  # by our names, in float32
    frozen: dict[str, Tensor]  # what there is of CLIP's own, by CLIP's names; perhaps nothing


def recognise(state: dict[str, Tensor]) -> Published:
    """The method that has the most of its tensors in a `state_dict`.

    Raises UserError if it holds no prompt, one that belongs to the classes it was trained with, or anything besides.
    """
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    method, names = "", {}
    for candidate in METHODS:
        kind = learner_class(candidate)
        published = kind.published() if kind.published_as else {}
        own = {ours: theirs for ours, theirs in published.items() if theirs in state}
        if len(own) > len(names):
            method, names = candidate, own
    if "ctx" not in names:
        titles = ", ".join(row.title for row in METHODS.values())
        raise UserError(f"holds no prompt of {titles}")
    left = {name: value for name, value in state.items() if name not in names.values()}
    kept = frozen(left)
    known = (*BESIDE, *TOWERS)
    for name in left:
        if not name.startswith(known):
            raise UserError(f"holds {name} beside a prompt of {METHODS[method].title}, which has none such")
    for name, value in state.items():
        if not is_plain(value):
            raise UserError(f"{name} isn't a plain tensor of floating-point numbers")
    found = {ours: state[theirs].detach().float() for ours, theirs in names.items()}
    if found["ctx"].dim() == 3:
        classes, vectors, _ = found["ctx"].shape
        raise UserError(f"its context is class-specific, {vectors} vectors of {classes} classes; prompts here are "
                        "shared by all classes")
    return Published(method, found, kept)


def is_plain(value: Tensor) -> bool:
    """Also that none of its numbers is there twice: a small file could hold a tensor of any size."""
    bytes_there = value.untyped_storage().nbytes()
    return value.is_floating_point() and value.numel() * value.element_size() <= bytes_there


def frozen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of CLIP's own, by CLIP's names."""
    found = {}
    for name, value in state.items():
        for theirs, ours in TOWERS.items():
            if name.startswith(theirs):
                found[ours + name.removeprefix(theirs)] = value
    return found


def different_weights(kept: dict[str, Tensor], clip: CLIP) -> str:
    """The first of the `frozen` tensors that isn't CLIP's; "" if all are."""
    known = dict(clip.named_parameters())
    for name, kept_value in kept.items():
        own = known.get(name)
        if own is None or kept_value.shape != own.shape:
            return name
        value = kept_value.detach().float().to(own.device)
        if not (value - own).abs().max() <= NEAR * own.abs().max():
            return name
    return ""
