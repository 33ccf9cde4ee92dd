"""Give a task's class names to a prompt learner as token embeddings, and encode them behind a context."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mp.clip import tokenizer
from mp.clip.model import CLIP
from mp.clip.packing import Packing, pack
from mp.runtime.errors import UserError

START = "a photo of a"  # where every learner starts (paper, section 4.2)
START_TOKENS = 4
START_STD = 0.02  # of prompts that don't start from words, as in the originals


class Chunk(NamedTuple):
    """Hold classes that go through the text tower together: their own tokens "class name." and EOT, packed."""
    suffix: Tensor  # [N, W]
    packing: Packing


class ClassPrompts(NamedTuple):
    """Hold the frozen part of "{ctx} {class name}." for C classes; the context goes between sos and the own tokens."""
    sos: Tensor                # [1, W]
    chunks: tuple[Chunk, ...]  # usually one; several where one would keep more than the memory budget
    start: Tensor              # [4, W] of "a photo of a"

    def prefix(self, ctx: Tensor) -> Tensor:
        """Return what all classes share [B, 1 + max(n, 4), W], for context vectors [B, n, W]: they take the place of as
        many of the start's words; words that are left stay, frozen."""
        B, n, _ = ctx.shape
        sos = self.sos.expand(B, -1, -1)
        rest = self.start[n:].expand(B, -1, -1)
        return torch.cat([sos, ctx, rest], 1)

    def tokens(self) -> int:
        """Return how many own tokens all classes have together."""
        return sum(len(chunk.suffix) for chunk in self.chunks)


def handcrafted_context(clip: CLIP) -> Tensor:
    """Return the token embeddings [4, W] of "a photo of a"."""
    ids = tokenizer.tokenize(START).to(clip.logit_scale.device)
    return clip.token_embedding(ids)[0, 1 : 1 + START_TOKENS].detach().clone()


def start_context(clip: CLIP, length: int, generator: torch.Generator | None) -> nn.Parameter:
    """Return the first layer's context [length, W]: the first words of "a photo of a", or noise where it has too few.

    Raises UserError for a length that leaves no room for a class name.
    """
    positions = len(clip.positional_embedding)
    most = positions - 4  # beside SOS, a name of one token, "." and EOT
    if not 1 <= length <= most:
        raise UserError(f"prompt length {length}: out of range; CLIP's {positions} positions take 1 to {most}")
    words = handcrafted_context(clip)
    if length > len(words):
        return noise(length, words.shape[1], generator)
    return nn.Parameter(words[:length].clone())


def noise(length: int, width: int, generator: torch.Generator | None) -> nn.Parameter:
    return nn.Parameter(START_STD * torch.randn(length, width, generator=generator))


def class_prompts(clip: CLIP, names: list[str]) -> ClassPrompts:
    """Return the frozen part of the classes' prompts, in chunks that the memory budget takes. Raises UserError for a
    class name that is empty or doesn't fit into CLIP's 77 tokens."""
    device = clip.logit_scale.device
    tokens = tokenize_names(f"{START} {{}}.", names)                        # [C, 77]
    own_tokens = tokens[:, 1 + START_TOKENS :]                              # [C, 72] of the classes, then zeros
    lengths = own_tokens.argmax(-1) + 1                                     # [C] EOT, the largest id, is the last
    bytes_so_far = lengths.cumsum(0) * clip.kept_bytes(clip.transformer)    # [C] of a class and all before it
    chunk_of_class = (bytes_so_far - 1) // clip.memory                      # [C] 0 while all fit (up to the last byte)
    chunks = []
    for number in chunk_of_class.unique():
        chosen = chunk_of_class == number
        packing = pack(lengths[chosen])
        longest = packing.row_at_place.shape[1]
        packed = own_tokens[chosen, :longest].flatten()[packing.place_of_row]     # [N]
        packing = Packing(*(t.to(device) for t in packing))
        chunks.append(Chunk(clip.token_embedding(packed.to(device)), packing))
    return ClassPrompts(clip.token_embedding(tokens[0, :1].to(device)), tuple(chunks), handcrafted_context(clip))


def tokenize_names(template: str, names: list[str]) -> Tensor:
    """Return the token ids [C, 77] of the template with each class name in it, "_" read as a space. Raises UserError
    for a name that is empty or too long."""
    names = [name.replace("_", " ") for name in names]
    for number, name in enumerate(names):
        if not name.strip():
            raise UserError(f"class {number} has an empty name; give it one")
    try:
        return tokenizer.tokenize([template.replace("{}", name) for name in names])
    except ValueError as e:
        raise UserError(f"a class name is too long for CLIP: {e}; shorten it") from None


def unknown_names(clip: CLIP, names: Sequence[str]) -> str:
    """Return a line about names with a token that has no embedding, "" without such: the miniature's CLIP holds only
    the words that it was trained with."""
    tokens = tokenize_names("{}", names)[:, 1:].to(clip.logit_scale.device)  # [C, 76] after SOS
    ids = tokens.unique()
    unknown_ids = ids[(clip.token_embedding(ids) == 0).all(1) & (ids != 0)]  # 0 is what follows EOT
    unknown = [name for name, has in zip(names, torch.isin(tokens, unknown_ids).any(1)) if has]
    if not unknown:
        return ""
    words = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    return f"this CLIP has never seen words of {words}: what it makes of them means nothing; give other weights"


def encode_classes(clip: CLIP, classes: ClassPrompts, prefix: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
    """Return normalised text features [B, C, E] for prefixes [B, P, W]; `deep` as in CLIP.encode_prompts.

    What would keep more than the memory budget is encoded in chunks of images and classes, with the same result. A
    chunk keeps only its inputs and is computed again in the backward pass. The graph of a second derivative keeps all
    chunks even so; there a batch in parts (mp/tasks.py) bounds the memory.
    """
    check_length(clip, classes, prefix.shape[1])
    bytes_per_image = classes.tokens() * clip.kept_bytes(clip.transformer)
    images_at_once = max(1, clip.memory // bytes_per_image)
    if len(classes.chunks) == 1 and len(prefix) <= images_at_once:
        return normalize(clip.encode_prompts(prefix, *classes.chunks[0], deep))

    rows = []
    for part in prefix.split(images_at_once):
        # Nothing here is random, so the generators' state needn't be kept (on a GPU that would wait for it).
        columns = [checkpoint(clip.encode_prompts, part, *chunk, deep, use_reentrant=False, preserve_rng_state=False)
                   for chunk in classes.chunks]
        rows.append(torch.cat(columns, 1))
    return normalize(torch.cat(rows))


def check_length(clip: CLIP, classes: ClassPrompts, prefix: int) -> None:
    """Raise UserError if a prefix of so many tokens and the longest class name don't fit into CLIP's positions."""
    longest = prefix + max(chunk.packing.row_at_place.shape[1] for chunk in classes.chunks)
    positions = len(clip.positional_embedding)
    if longest > positions:
        raise UserError(f"the prompt and the longest class name take {longest} of CLIP's {positions} positions; give a "
                        "smaller --length, or shorten the name")


def normalize(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@torch.no_grad()
def template_features(clip: CLIP, template: str, names: list[str]) -> Tensor:
    """Return unnormalised text features [C, E] of a handcrafted template such as "a photo of a {}."; as many classes go
    through at a time as the memory budget takes."""
    tokens = tokenize_names(template, names)                                # [C, 77]
    longest = int(tokens.argmax(-1).max()) + 1                              # to EOT, the largest id
    layer_bytes = clip.kept_bytes(clip.transformer) // len(clip.transformer.resblocks)  # no gradient: one at a time
    at_once = max(1, clip.memory // (longest * layer_bytes))
    return torch.cat([clip.encode_text(part.to(clip.logit_scale.device)) for part in tokens.split(at_once)])
