"""Prompts in several layers of both towers: what PromptSRC and MaPLe share."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.coop import CoOp
from mp.learners.prompts import ClassPrompts, encode_classes, handcrafted_context, normalize
from mp.runtime.errors import UserError

START_STD = 0.02  # of prompts that don't start from words, as in the originals


class DeepPrompts(CoOp):
    """A learner that owns `ctx` [n, W] for the text tower's first layer and `text`, a ParameterDict, with [n, W] for
    each of the next layers; the image tower's are what `image_prompts` gives. Classes and loss are CoOp's."""

    sees_images = True  # its prompts change the image features

    def image_prompts(self) -> list[Tensor]:
        """[m, W of the image tower] for each of its first layers."""
        raise NotImplementedError

    def kept_bytes(self, clip: CLIP, classes: Any) -> int:
        tokens = len(clip.visual.positional_embedding) + sum(len(prompt) for prompt in self.image_prompts()[:1])
        return clip.kept_bytes(clip.visual.transformer) * tokens

    def text_features(self, clip: CLIP, prompts: ClassPrompts) -> Tensor:
        return encode_classes(clip, prompts, prompts.prefix(self.ctx[None]), list(self.text.values()))[0]  # [C, E]

    def image_features(self, clip: CLIP, images: Tensor) -> Tensor:
        return normalize(clip.encode_image(images, self.image_prompts()))                                  # [B, E]

    def classifier(self, clip: CLIP, prompts: ClassPrompts) -> Callable[[Tensor], Tensor]:
        text = self.text_features(clip, prompts)
        return lambda images: clip.logit_scale.exp() * self.image_features(clip, images) @ text.T


def check_shape(clip: CLIP, depth: int, length: int, tower: str = "") -> None:
    layers = min(len(clip.transformer.resblocks), len(clip.visual.transformer.resblocks))
    if not 1 <= depth <= layers:
        raise UserError(f"{tower}prompt depth {depth}: out of range; these towers take 1 to {layers}")
    positions = len(clip.positional_embedding)
    most = positions - 4  # beside SOS, a one-token name, "." and EOT
    if not 1 <= length <= most:
        raise UserError(f"{tower}prompt length {length}: out of range; CLIP's {positions} positions take 1 to {most}")


def start_context(clip: CLIP, length: int, generator: torch.Generator | None) -> nn.Parameter:
    """Of the first layer [length, W]: the first words of "a photo of a", or noise where there are too few."""
    words = handcrafted_context(clip)
    if length > len(words):
        return noise(length, words.shape[1], generator)
    return nn.Parameter(words[:length].clone())


def noise(length: int, width: int, generator: torch.Generator | None) -> nn.Parameter:
    return nn.Parameter(START_STD * torch.randn(length, width, generator=generator))
