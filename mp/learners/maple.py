"""Learn MaPLe (Khattak et al., CVPR 2023): deep prompts in the text tower, and couplings that make the image tower's of
them.

PromptSRC grew out of it: there, both towers' prompts are learnt apart.
"""
import copy

import torch
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.cocoop import seeded_linear
from mp.learners.deep import LAYERS, DeepPrompts


class MaPLe(DeepPrompts):
    """Learn `ctx` [n, W] for the text tower's first layer, `text.i` [n, W] for layers 1..depth-1, n = `length`, and the
    couplings `proj.i`, linear from W to the image tower's width V, with bias, for layers 0..depth-1.

    ctx starts from "a photo", whose other words "of a" stay where they are, frozen; the `text.i` start from a normal
    distribution, couplings from torch's own for linear layers, all but the first from the same draw. Classes and loss,
    cross-entropy, are CoOp's. Raises UserError if the towers can't take `depth` or `length`.
    """

    published_as = "MultiModalPromptLearner"

    def __init__(self, clip: CLIP, depth: int = 9, length: int = 2, generator: torch.Generator | None = None):
        super().__init__(clip, depth, length, generator)
        widths = self.ctx.shape[1], clip.visual.class_embedding.numel()
        first, later = seeded_linear(*widths, generator), seeded_linear(*widths, generator)
        self.proj = nn.ModuleList([first, *(copy.deepcopy(later) for _ in range(1, depth))])

    @staticmethod
    def published() -> dict[str, str]:
        names = {"ctx": "prompt_learner.ctx"}
        for kind in ("weight", "bias"):
            names[f"proj.0.{kind}"] = f"prompt_learner.proj.{kind}"
        for i in range(1, LAYERS):
            names[f"text.{i}"] = f"prompt_learner.compound_prompts_text.{i - 1}"
            for kind in ("weight", "bias"):
                names[f"proj.{i}.{kind}"] = f"prompt_learner.compound_prompt_projections.{i - 1}.{kind}"
        return names

    def inputs(self, clip: CLIP, images: Tensor) -> tuple[Tensor]:
        """Return the images themselves, still bytes."""
        return (images,)

    def image_prompts(self) -> list[Tensor]:
        """Return [n, V] for each of the layers: one gradient, of both towers, shapes what they are made of."""
        return [coupling(prompt) for coupling, prompt in zip(self.proj, [self.ctx, *self.text.values()])]
