"""CoCoOp (Zhou et al. 2022b): CoOp's context, shifted for every image by a small network of its feature."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.prompts import ClassPrompts, class_prompts, encode_classes, handcrafted_context, normalize


class CoCoOp(nn.Module):
    """Owns `ctx` [4, W] and the meta-net E -> E/16 -> W, whose output is added to all four vectors."""

    sees_images = False  # features of frozen CLIP are enough

    def __init__(self, clip: CLIP, generator: torch.Generator | None = None):
        super().__init__()
        self.ctx = nn.Parameter(handcrafted_context(clip))
        embed, width = clip.text_projection.shape[1], self.ctx.shape[1]
        self.meta_net = nn.Sequential()
        self.meta_net.add_module("linear1", seeded_linear(embed, embed // 16, generator))
        self.meta_net.add_module("relu", nn.ReLU())
        self.meta_net.add_module("linear2", seeded_linear(embed // 16, width, generator))

    def prepare(self, clip: CLIP, names: list[str]) -> ClassPrompts:
        """What the classes of a task look like to this learner."""
        return class_prompts(clip, names)

    def kept_bytes(self, clip: CLIP, classes: ClassPrompts) -> int:
        """About what each image of a batch adds to the memory that the loss keeps for its gradient."""
        return clip.kept_bytes(clip.transformer) * sum(len(chunk.suffix) for chunk in classes.chunks)

    @torch.no_grad()
    def look(self, clip: CLIP, images: Tensor) -> tuple[Tensor]:
        """What this learner needs of images [B, 3, size, size]: their normalised features [B, E]."""
        return (normalize(clip.encode_image(images)),)

    def classifier(self, clip: CLIP, classes: ClassPrompts) -> Callable[[Tensor], Tensor]:
        """The function from features [B, E] to logits [B, C]: every image has its own text features of every class."""
        def logits(features: Tensor) -> Tensor:
            ctx = self.ctx + self.meta_net(features)[:, None]                                 # [B, 4, W]
            prefix = torch.cat([classes.sos.expand(len(ctx), 1, -1), ctx], 1)               # [B, 5, W]
            text = encode_classes(clip, classes, prefix)                                      # [B, C, E]
            return clip.logit_scale.exp() * (text @ features[:, :, None])[:, :, 0]

        return logits

    def forward(self, clip: CLIP, classes: ClassPrompts, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, C] of features [B, E], or with labels [B] the loss, a mean over the images."""
        logits = self.classifier(clip, classes)(features)
        return logits if labels is None else F.cross_entropy(logits, labels)


def seeded_linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """nn.Linear with torch's own initial distribution, drawn from `generator`."""
    layer = nn.Linear(inputs, outputs)
    for p in layer.parameters():
        nn.init.uniform_(p, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer
