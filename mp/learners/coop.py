"""CoOp (Zhou et al. 2022): four context vectors in place of "a photo of a", the same for every class."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.prompts import ClassPrompts, class_prompts, encode_classes, handcrafted_context, normalize


class CoOp(nn.Module):
    """Owns what is learnt, `ctx` [4, W]; classes and images are arguments, so any task can use it."""

    sees_images = False  # features of frozen CLIP are enough

    def __init__(self, clip: CLIP):
        super().__init__()
        self.ctx = nn.Parameter(handcrafted_context(clip))

    def prepare(self, clip: CLIP, names: list[str]) -> ClassPrompts:
        """What the classes of a task look like to this learner."""
        return class_prompts(clip, names)

    def kept_bytes(self, clip: CLIP, classes: ClassPrompts) -> int:
        """About what each image of a batch adds to the memory that the loss keeps for its gradient."""
        return 0  # the classes are encoded once for all images

    @torch.no_grad()
    def look(self, clip: CLIP, images: Tensor) -> tuple[Tensor]:
        """What this learner needs of images [B, 3, size, size]: their normalised features [B, E]."""
        return (normalize(clip.encode_image(images)),)

    def classifier(self, clip: CLIP, classes: ClassPrompts) -> Callable[[Tensor], Tensor]:
        """The function from features [B, E] to logits [B, C]; the classes are encoded once, here."""
        prefix = torch.cat([classes.sos, self.ctx])[None]                            # [1, 5, W]
        text = encode_classes(clip, classes, prefix)[0]                              # [C, E]
        return lambda features: clip.logit_scale.exp() * features @ text.T

    def forward(self, clip: CLIP, classes: ClassPrompts, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, C] of features [B, E], or with labels [B] the loss, a mean over the images."""
        logits = self.classifier(clip, classes)(features)
        return logits if labels is None else F.cross_entropy(logits, labels)
