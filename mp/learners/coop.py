"""Learn CoOp (Zhou et al. 2022): four context vectors in place of "a photo of a", the same for every class."""
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.prompts import START_TOKENS, ClassPrompts, class_prompts, encode_classes, normalize, start_context


class CoOp(nn.Module):
    """Learn `ctx` [n, W], n = `length`. The methods are explained in mp/learners/__init__.py.

    ctx starts from "a photo of a"; more than its 4 vectors can't, and start from a normal distribution. Raises
    UserError for a length that CLIP can't take.
    """

    sees_images = False
    published_as = "prompt_learner"

    def __init__(self, clip: CLIP, generator: torch.Generator | None = None, length: int = START_TOKENS):
        super().__init__()
        self.ctx = start_context(clip, length, generator)

    @staticmethod
    def published() -> dict[str, str]:
        return {"ctx": "ctx"}

    def prepare(self, clip: CLIP, names: list[str]) -> ClassPrompts:
        return class_prompts(clip, names)

    def image_bytes(self, clip: CLIP, classes: ClassPrompts) -> int:
        return 0  # the classes are encoded once for all images

    def class_bytes(self, clip: CLIP, classes: Any) -> int:
        return clip.kept_bytes(clip.transformer) * classes.tokens()

    @torch.no_grad()
    def inputs(self, clip: CLIP, images: Tensor) -> tuple[Tensor]:
        """Return normalised features [B, E]."""
        return (normalize(clip.encode_image(images)),)

    def classifier(self, clip: CLIP, prompts: ClassPrompts) -> Callable[[Tensor], Tensor]:
        text = encode_classes(clip, prompts, prompts.prefix(self.ctx[None]))[0]      # [C, E]
        return lambda features: clip.logit_scale.exp() * features @ text.T

    def forward(self, clip: CLIP, classes: ClassPrompts, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of features [B, E] with labels [B]."""
        logits = self.classifier(clip, classes)(features)
        return F.cross_entropy(logits, labels)
