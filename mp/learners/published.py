"""Prompts in the files of the methods' own code: which method they are of, and their tensors by our names."""
from torch import Tensor

from mp.clip.model import CLIP
from mp.learners import METHODS, learner_class
from mp.runtime.errors import UserError

LAYERS = 48  # more than any CLIP has
NEAR = 0.005  # of a tensor's largest value: as far as an average over epochs, in half precision, may move a frozen one
TOWERS = (("image_encoder.", "visual."), ("text_encoder.", ""), ("logit_scale", "logit_scale"))  # theirs, CLIP's


def recognise(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The method that has the most of its tensors in a `state_dict`, and these, in float32.

    Raises UserError if it holds no prompt, or one that belongs to the classes it was trained with.
    """
    state = {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    method, found = "", {}
    for candidate in METHODS:
        names = learner_class(candidate).published(LAYERS)
        own = {ours: state[theirs] for ours, theirs in names.items() if theirs in state}
        if len(own) > len(found):
            method, found = candidate, own
    if "ctx" not in found:
        raise UserError("holds no prompt of CoOp, CoCoOp, MaPLe or PromptSRC")
    if found["ctx"].dim() == 3:
        raise UserError("its context is class-specific, {} vectors of {} classes; prompts here are shared by all "
                        "classes".format(*found["ctx"].shape[1::-1]))
    return method, {name: value.detach().float() for name, value in found.items()}


def frozen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the file holds of CLIP's own tensors, by CLIP's names; perhaps nothing."""
    found = {}
    for name, value in state.items():
        for theirs, ours in TOWERS:
            if isinstance(value, Tensor) and name.removeprefix("module.").startswith(theirs):
                found[ours + name.removeprefix("module.").removeprefix(theirs)] = value
    return found


def different_weights(kept: dict[str, Tensor], clip: CLIP) -> str:
    """The first of the `frozen` tensors that isn't CLIP's; "" if all are."""
    for name, own in clip.named_parameters():
        if name in kept:
            value = kept[name].detach().float().to(own.device)
            if value.shape != own.shape or not (value - own).abs().max() <= NEAR * own.abs().max():
                return name
    return ""
