"""Learn CoCoOp (Zhou et al. 2022b): CoOp's context, shifted for every image by a small network of its feature."""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.coop import CoOp
from mp.learners.prompts import START_TOKENS, ClassPrompts, encode_classes


class CoCoOp(CoOp):
    """Learn `ctx` [n, W] and the meta-net E -> E/16 -> W, whose output is added to all n vectors.

    Classes, inputs and loss are CoOp's.
    """

    def __init__(self, clip: CLIP, generator: torch.Generator | None = None, length: int = START_TOKENS):
        super().__init__(clip, generator, length)
        embed, width = clip.text_projection.shape[1], self.ctx.shape[1]
        self.meta_net = nn.Sequential()
        self.meta_net.add_module("linear1", seeded_linear(embed, embed // 16, generator))
        self.meta_net.add_module("relu", nn.ReLU())
        self.meta_net.add_module("linear2", seeded_linear(embed // 16, width, generator))

    @staticmethod
    def published() -> dict[str, str]:
        names = ["ctx"]
        for layer in ("linear1", "linear2"):
            names += [f"meta_net.{layer}.weight", f"meta_net.{layer}.bias"]
        return {name: name for name in names}

    def image_bytes(self, clip: CLIP, classes: ClassPrompts) -> int:
        return clip.kept_bytes(clip.transformer) * classes.tokens()

    def class_bytes(self, clip: CLIP, classes: ClassPrompts) -> int:
        return 0  # every image has its own

    def classifier(self, clip: CLIP, prompts: ClassPrompts) -> Callable[[Tensor], Tensor]:
        def logits(features: Tensor) -> Tensor:
            ctx = self.ctx + self.meta_net(features)[:, None]                        # [B, n, W]
            text = encode_classes(clip, prompts, prompts.prefix(ctx))                # [B, C, E] each image has its own
            return clip.logit_scale.exp() * (text @ features[:, :, None])[:, :, 0]

        return logits


def seeded_linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """Return nn.Linear with torch's own initial distribution, drawn from `generator`."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)  # whose own draw would be from torch's global generator
    for p in layer.parameters():
        nn.init.uniform_(p, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer
