"""What a task gives to every prompt learner: its class names as token embeddings."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mp.clip import tokenizer
from mp.clip.model import CLIP, Packing, pack
from mp.runtime.errors import UserError

HANDCRAFTED = "a photo of a"  # where every learner starts (paper, section 4.2)


class Chunk(NamedTuple):
    """Classes that go through the text tower together: their own tokens "class name." and EOT, packed."""
    suffix: Tensor  # [N, W]
    packing: Packing


class ClassPrompts(NamedTuple):
    """The frozen part of "{ctx} {class name}." for C classes; the context goes between sos and the own tokens."""
    sos: Tensor                # [1, W]
    chunks: tuple[Chunk, ...]  # usually one; several where one would keep more than the memory budget


def handcrafted_context(clip: CLIP) -> Tensor:
    """Token embeddings [4, W] of "a photo of a"."""
    ids = tokenizer.tokenize(HANDCRAFTED).to(clip.logit_scale.device)
    return clip.token_embedding(ids)[0, 1:5].detach().clone()


def class_prompts(clip: CLIP, names: list[str]) -> ClassPrompts:
    """Raises UserError for a class name that is empty or doesn't fit into CLIP's 77 tokens."""
    tokens = tokenize_names(f"{HANDCRAFTED} {{}}.", names)
    device, lengths, chunks = clip.logit_scale.device, tokens.argmax(-1) - 4, []
    number = (lengths.cumsum(0) - 1) * clip.kept_bytes(clip.transformer) // clip.memory  # of each class's chunk
    for some in number.unique():
        packing = pack(lengths[number == some])
        own = tokens[number == some, 5 : 5 + packing.padded.shape[1]].flatten()[packing.own]
        chunks.append(Chunk(clip.token_embedding(own.to(device)), Packing(*(t.to(device) for t in packing))))
    return ClassPrompts(clip.token_embedding(tokens[0, :1].to(device)), tuple(chunks))


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

    What would keep more than the memory budget is encoded in chunks of images and classes. With gradients a
    chunk keeps only its inputs and is computed again in the backward pass. The result is the same.
    """
    longest = prefix.shape[1] + max(chunk.packing.padded.shape[1] for chunk in classes.chunks)
    if longest > len(clip.positional_embedding):
        raise UserError(f"the prompt and the longest class name take {longest} of CLIP's {len(clip.positional_embedding)} "
                        "positions; give a smaller --length, or shorten the name")
    B, tokens = len(prefix), sum(len(chunk.suffix) for chunk in classes.chunks)
    images = max(1, clip.memory // (tokens * clip.kept_bytes(clip.transformer)))  # at a time
    if len(classes.chunks) == 1 and B <= images:
        return normalize(clip.encode_prompts(prefix, *classes.chunks[0], deep))
    # Nothing here is random, so the generators' state needn't be kept (on a GPU that would wait for it).
    rows = [torch.cat([checkpoint(clip.encode_prompts, some, *chunk, deep, use_reentrant=False, preserve_rng_state=False)
                       for chunk in classes.chunks], 1) for some in prefix.split(images)]
    return normalize(torch.cat(rows))


def normalize(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@torch.no_grad()
def template_features(clip: CLIP, template: str, names: list[str]) -> Tensor:
    """Unnormalised text features [C, E] of a handcrafted template such as "a photo of a {}."."""
    return clip.encode_text(tokenize_names(template, names).to(clip.logit_scale.device))
