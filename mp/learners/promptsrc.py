"""PromptSRC (Khattak et al. 2023): deep prompts in both towers, kept close to frozen CLIP.

loss = cross-entropy + 25 · |text - frozen text| + 20 · |image - frozen image| + KL(frozen ‖ prompted)
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.runtime.errors import UserError
from mp.learners.prompts import (Chunk, ClassPrompts, class_prompts, encode_classes, handcrafted_context, normalize,
                        template_features)
from mp.learners.templates import TEMPLATES

TEXT_WEIGHT, IMAGE_WEIGHT = 25.0, 20.0  # paper, section 4.2; PromptSRC's own code has 10 for images


class AnchoredClasses(NamedTuple):
    """ClassPrompts, and the features that frozen CLIP gives the classes."""
    sos: Tensor                # [1, W]
    chunks: tuple[Chunk, ...]
    frozen: Tensor             # [C, E] normalised mean over 60 templates


class PromptSRC(nn.Module):
    """Owns `ctx` [n, W] for the text tower's first layer, `text.i` [n, W] for layers 1..depth-1 and
    `vision.i` [n, W of the image tower] for layers 0..depth-1; n = 4 vectors each.

    ctx starts from the handcrafted prompt (more than its 4 vectors can't); everything else, as in
    the original, from a normal distribution with standard deviation 0.02.
    Raises UserError if a tower has fewer than `depth` layers.
    """

    sees_images = True  # its own prompts change the image features

    def __init__(self, clip: CLIP, depth: int = 9, length: int = 4, generator: torch.Generator | None = None):
        super().__init__()
        layers = min(len(clip.transformer.resblocks), len(clip.visual.transformer.resblocks))
        if not 1 <= depth <= layers:
            raise UserError(f"prompt depth {depth}: out of range; these towers take 1 to {layers}")
        context, positions = handcrafted_context(clip), len(clip.positional_embedding)
        if not 1 <= length <= positions - 4:  # beside SOS, a one-token name, "." and EOT
            raise UserError(f"prompt length {length}: out of range; CLIP's {positions} positions take 1 to {positions - 4}")
        image_width = clip.visual.class_embedding.numel()

        def draw(width: int) -> nn.Parameter:
            noise = 0.02 * torch.randn(length, width, generator=generator)
            return nn.Parameter(noise.to(context.device))

        self.ctx = nn.Parameter(context[:length].clone()) if length <= len(context) else draw(context.shape[1])
        self.text = nn.ParameterDict({str(i): draw(context.shape[1]) for i in range(1, depth)})
        self.vision = nn.ParameterDict({str(i): draw(image_width) for i in range(depth)})

    def prepare(self, clip: CLIP, names: list[str]) -> AnchoredClasses:
        """What the classes of a task look like to this learner. The frozen features are the mean of the
        templates' *unnormalised* features, then normalised."""
        frozen = torch.stack([template_features(clip, t, names) for t in TEMPLATES]).mean(0)
        return AnchoredClasses(*class_prompts(clip, names), frozen=normalize(frozen))

    def kept_bytes(self, clip: CLIP, classes: AnchoredClasses) -> int:
        """About what each image of a batch adds to the memory that the loss keeps for its gradient."""
        tokens = len(clip.visual.positional_embedding) + len(self.ctx)
        return clip.kept_bytes(clip.visual.transformer) * tokens

    @torch.no_grad()
    def look(self, clip: CLIP, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images [B, 3, size, size] themselves, and what frozen CLIP makes of them [B, E]."""
        return images, normalize(clip.encode_image(images))

    def text_features(self, clip: CLIP, classes: ClassPrompts | AnchoredClasses) -> Tensor:
        prefix = torch.cat([classes.sos, self.ctx])[None]                                     # [1, 1+n, W]
        return encode_classes(clip, classes, prefix, list(self.text.values()))[0]             # [C, E]

    def image_features(self, clip: CLIP, images: Tensor) -> Tensor:
        return normalize(clip.encode_image(images, list(self.vision.values())))               # [B, E]

    def classifier(self, clip: CLIP, classes: ClassPrompts | AnchoredClasses) -> Callable[[Tensor], Tensor]:
        """The function from images [B, 3, size, size] to logits [B, C]; the classes are encoded once, here."""
        text = self.text_features(clip, classes)
        return lambda images: clip.logit_scale.exp() * self.image_features(clip, images) @ text.T

    def forward(self, clip: CLIP, classes: AnchoredClasses, images: Tensor, frozen: Tensor,
                labels: Tensor | None = None) -> Tensor:
        """Logits [B, C], or with labels [B] the loss, a mean over the images; `frozen` as `look` gives it."""
        if labels is None:
            return self.classifier(clip, classes)(images)
        text, image = self.text_features(clip, classes), self.image_features(clip, images)
        return sum(self.loss_terms(clip, classes, text, image, frozen, labels).values())

    def loss_terms(self, clip: CLIP, classes: AnchoredClasses, text: Tensor, image: Tensor, frozen: Tensor,
                   labels: Tensor) -> dict[str, Tensor]:
        logits = clip.logit_scale.exp() * image @ text.T
        frozen_logits = clip.logit_scale.exp() * frozen @ classes.frozen.T
        log_p, log_q = logits.log_softmax(-1), frozen_logits.log_softmax(-1)
        return {
            "ce": F.cross_entropy(logits, labels),
            "text": TEXT_WEIGHT * (text - classes.frozen).abs().mean(),
            "image": IMAGE_WEIGHT * (image - frozen).abs().mean(),
            "kl": (log_q.exp() * (log_q - log_p)).mean(),
        }
