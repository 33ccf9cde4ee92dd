"""PromptSRC (Khattak et al. 2023): deep prompts in both towers, kept close to frozen CLIP.

loss = cross-entropy + 25 · |text - frozen text| + 20 · |image - frozen image| + KL(frozen ‖ prompted)
"""
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.prompts import (ClassPrompts, class_prompts, encode_classes, handcrafted_context, normalize,
                                 template_features)
from mp.runtime.errors import UserError

# The first 60 of OpenAI's 80 ImageNet templates.
TEMPLATES = Path(__file__).with_name("templates.txt").read_text(encoding="utf-8").splitlines()
TEXT_WEIGHT, IMAGE_WEIGHT = 25.0, 20.0  # paper, section 4.2; PromptSRC's own code has 10 for images
START_STD = 0.02                        # of prompts that don't start from words, as in the original


class AnchoredClasses(NamedTuple):
    """The classes, and the features that frozen CLIP gives them."""
    prompts: ClassPrompts
    frozen: Tensor         # [C, E] normalised mean over the templates


class PromptSRC(nn.Module):
    """Owns `ctx` [n, W] for the text tower's first layer, `text.i` [n, W] for layers 1..depth-1 and
    `vision.i` [n, W of the image tower] for layers 0..depth-1; n = `length` vectors each.

    ctx starts from the handcrafted prompt (more than its 4 vectors can't); everything else from a normal
    distribution. Raises UserError if the towers can't take `depth` or `length`.
    """

    sees_images = True  # its own prompts change the image features
    has_depth = True
    averages_epochs = True

    def __init__(self, clip: CLIP, depth: int = 9, length: int = 4, generator: torch.Generator | None = None):
        super().__init__()
        check_shape(clip, depth, length)
        context = handcrafted_context(clip)
        text_width, image_width = context.shape[1], clip.visual.class_embedding.numel()

        def draw(width: int) -> nn.Parameter:
            noise = START_STD * torch.randn(length, width, generator=generator)
            return nn.Parameter(noise.to(context.device))

        self.ctx = nn.Parameter(context[:length].clone()) if length <= len(context) else draw(text_width)
        self.text, self.vision = nn.ParameterDict(), nn.ParameterDict()
        for i in range(1, depth):  # one by one: a ParameterDict made from a dict sorts its keys as text, 10 before 2
            self.text[str(i)] = draw(text_width)
        for i in range(depth):
            self.vision[str(i)] = draw(image_width)

    def prepare(self, clip: CLIP, names: list[str]) -> AnchoredClasses:
        """The frozen features are the mean of the templates' *unnormalised* features, then normalised."""
        frozen = torch.stack([template_features(clip, t, names) for t in TEMPLATES]).mean(0)
        return AnchoredClasses(class_prompts(clip, names), normalize(frozen))

    def kept_bytes(self, clip: CLIP, classes: AnchoredClasses) -> int:
        tokens = len(clip.visual.positional_embedding) + len(self.ctx)
        return clip.kept_bytes(clip.visual.transformer) * tokens

    @torch.no_grad()
    def inputs(self, clip: CLIP, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images themselves, still bytes, and what frozen CLIP makes of them [B, E]."""
        return images, normalize(clip.encode_image(images))

    def text_features(self, clip: CLIP, prompts: ClassPrompts) -> Tensor:
        prefix = torch.cat([prompts.sos, self.ctx])[None]                                     # [1, 1+n, W]
        return encode_classes(clip, prompts, prefix, list(self.text.values()))[0]             # [C, E]

    def image_features(self, clip: CLIP, images: Tensor) -> Tensor:
        return normalize(clip.encode_image(images, list(self.vision.values())))               # [B, E]

    def classifier(self, clip: CLIP, prompts: ClassPrompts) -> Callable[[Tensor], Tensor]:
        text = self.text_features(clip, prompts)
        return lambda images: clip.logit_scale.exp() * self.image_features(clip, images) @ text.T

    def forward(self, clip: CLIP, classes: AnchoredClasses, images: Tensor, frozen: Tensor, labels: Tensor) -> Tensor:
        """The sum of the four terms for images [B, size, size, 3], their frozen features [B, E] and labels [B]."""
        text, image = self.text_features(clip, classes.prompts), self.image_features(clip, images)
        return sum(loss_terms(clip, classes, text, image, frozen, labels).values())


def check_shape(clip: CLIP, depth: int, length: int) -> None:
    layers = min(len(clip.transformer.resblocks), len(clip.visual.transformer.resblocks))
    if not 1 <= depth <= layers:
        raise UserError(f"prompt depth {depth}: out of range; these towers take 1 to {layers}")
    positions = len(clip.positional_embedding)
    most = positions - 4  # beside SOS, a one-token name, "." and EOT
    if not 1 <= length <= most:
        raise UserError(f"prompt length {length}: out of range; CLIP's {positions} positions take 1 to {most}")


def loss_terms(clip: CLIP, classes: AnchoredClasses, text: Tensor, image: Tensor, frozen: Tensor,
               labels: Tensor) -> dict[str, Tensor]:
    """The four terms, weighted, for prompted text [C, E] and image [B, E] features and frozen image features [B, E]."""
    logits = clip.logit_scale.exp() * image @ text.T
    frozen_logits = clip.logit_scale.exp() * frozen @ classes.frozen.T
    log_p, log_q = logits.log_softmax(-1), frozen_logits.log_softmax(-1)
    return {
        "ce": F.cross_entropy(logits, labels),
        "text": TEXT_WEIGHT * (text - classes.frozen).abs().mean(),
        "image": IMAGE_WEIGHT * (image - frozen).abs().mean(),
        "kl": (log_q.exp() * (log_q - log_p)).mean(),
    }
