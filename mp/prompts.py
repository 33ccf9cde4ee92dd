"""What a task gives to every prompt learner: its class names as token embeddings."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mp import tokenizer
from mp.clip import CLIP
from mp.errors import UserError

ACTIVATION_BUDGET = 2 * 2**30  # bytes that one pass through the text tower may keep for its gradient
HANDCRAFTED = "a photo of a"  # where every learner starts (paper, section 4.2)


class ClassPrompts(NamedTuple):
    """The frozen part of "{ctx} {class name}." for C classes; the context goes between sos and suffix."""
    sos: Tensor     # [1, W]
    suffix: Tensor  # [C, L, W] embeddings of "class name.", EOT and padding
    eot: Tensor     # [C] position of EOT in the suffix


def handcrafted_context(clip: CLIP) -> Tensor:
    """Token embeddings [4, W] of "a photo of a"."""
    ids = tokenizer.tokenize(HANDCRAFTED).to(clip.logit_scale.device)
    return clip.token_embedding(ids)[0, 1:5].detach().clone()


def class_prompts(clip: CLIP, names: list[str]) -> ClassPrompts:
    """Raises UserError for a class name that is empty or doesn't fit into CLIP's 77 tokens."""
    tokens = tokenize_names(f"{HANDCRAFTED} {{}}.", names).to(clip.logit_scale.device)
    eot = tokens.argmax(-1)
    x = clip.token_embedding(tokens[:, : int(eot.max()) + 1])  # nothing after the last EOT is ever seen
    return ClassPrompts(sos=x[0, :1], suffix=x[:, 5:], eot=eot - 5)


def tokenize_names(template: str, names: list[str]) -> Tensor:
    """Token ids [C, 77] of the template with each class name in it, "_" read as a space."""
    names = [name.replace("_", " ") for name in names]
    if empty := [i for i, name in enumerate(names) if not name.strip()]:
        raise UserError(f"class {empty[0]} has an empty name; give it one")
    try:
        return tokenizer.tokenize([template.replace("{}", name) for name in names])
    except ValueError as e:
        raise UserError(f"a class name is too long for CLIP: {e}; shorten it") from None


def encode_classes(clip: CLIP, classes: ClassPrompts, prefix: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
    """Normalised text features [B, C, E] for prefixes [B, P, W]; `deep` as in CLIP.encode_prompts.

    Beyond ACTIVATION_BUDGET, images and classes are encoded in chunks, and with gradients a chunk
    keeps only its inputs and is computed again in the backward pass. The result is the same.
    """
    L, W = classes.suffix.shape[1:]
    if prefix.shape[1] + L > len(clip.positional_embedding):
        raise UserError(f"the prompt and the longest class name take {prefix.shape[1] + L} of CLIP's "
                        f"{len(clip.positional_embedding)} positions; give a smaller --length, or shorten the name")
    kept_floats = 40 * W * L * len(clip.transformer.resblocks)  # per class prompt, measured
    prompts = max(1, ACTIVATION_BUDGET // (4 * kept_floats))
    B, C = len(prefix), len(classes.suffix)
    if B * C <= prompts:
        return normalize(clip.encode_prompts(prefix, classes.suffix, classes.eot, deep))
    rows = []
    for some in prefix.split(max(1, prompts // C)):
        columns = [checkpoint(clip.encode_prompts, some, suffix, eot, deep, use_reentrant=False)
                   for suffix, eot in zip(classes.suffix.split(prompts), classes.eot.split(prompts))]
        rows.append(torch.cat(columns, 1))
    return normalize(torch.cat(rows))


def normalize(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@torch.no_grad()
def template_features(clip: CLIP, template: str, names: list[str]) -> Tensor:
    """Unnormalised text features [C, E] of a handcrafted template such as "a photo of a {}."."""
    return clip.encode_text(tokenize_names(template, names).to(clip.logit_scale.device))
