"""Put prompts into several layers of both towers, as PromptSRC and MaPLe do."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.coop import CoOp
from mp.learners.prompts import ClassPrompts, encode_classes, noise, normalize
from mp.runtime.errors import UserError

LAYERS = 48  # more than any CLIP has that loads here


class DeepPrompts(CoOp):
    """Learn `ctx` [n, W] for the text tower's first layer and `text`, a ParameterDict, with [n, W] for each of the next
    layers; the image tower's prompts are what `image_prompts` gives. Classes and loss are CoOp's."""

    sees_images = True  # its prompts change the image features
    image_prompts: Callable[[], list[Tensor]]  # [m, W of the image tower] for each of its first layers

    def __init__(self, clip: CLIP, depth: int, length: int, generator: torch.Generator | None):
        super().__init__(clip, generator, length)
        check_depth(clip, depth)
        self.text = nn.ParameterDict()
        for i in range(1, depth):  # one by one: a ParameterDict made from a dict sorts its keys as text, 10 before 2
            self.text[str(i)] = noise(length, self.ctx.shape[1], generator)

    def image_bytes(self, clip: CLIP, classes: Any) -> int:
        tokens = len(clip.visual.positional_embedding)
        if prompts := self.image_prompts():
            tokens += len(prompts[0])
        return clip.kept_bytes(clip.visual.transformer) * tokens

    def text_features(self, clip: CLIP, prompts: ClassPrompts) -> Tensor:
        """Return [C, E], normalised."""
        return encode_classes(clip, prompts, prompts.prefix(self.ctx[None]), list(self.text.values()))[0]

    def image_features(self, clip: CLIP, images: Tensor) -> Tensor:
        """Return [B, E], normalised."""
        return normalize(clip.encode_image(images, self.image_prompts()))

    def classifier(self, clip: CLIP, prompts: ClassPrompts) -> Callable[[Tensor], Tensor]:
        text = self.text_features(clip, prompts)
        return lambda images: clip.logit_scale.exp() * self.image_features(clip, images) @ text.T


def layers_of(clip: CLIP) -> int:
    """Return how many layers both towers have."""
    return min(len(tower.resblocks) for tower in (clip.transformer, clip.visual.transformer))


def check_depth(clip: CLIP, depth: int, tower: str = "") -> None:
    layers = layers_of(clip)
    if not 1 <= depth <= layers:
        raise UserError(f"{tower}prompt depth {depth}: out of range; these towers take 1 to {layers}")
