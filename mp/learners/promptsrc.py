"""Learn PromptSRC (Khattak et al. 2023): deep prompts in both towers, kept close to frozen CLIP.

loss = cross-entropy + 25 · |text - frozen text| + 20 · |image - frozen image| + KL(frozen ‖ prompted)
"""
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.model import CLIP
from mp.learners.deep import LAYERS, DeepPrompts, check_depth
from mp.learners.prompts import ClassPrompts, class_prompts, noise, normalize, template_features

# The first 60 of OpenAI's 80 ImageNet templates.
TEMPLATES = Path(__file__).with_name("templates.txt").read_text(encoding="utf-8").splitlines()
TEXT_WEIGHT, IMAGE_WEIGHT = 25.0, 20.0  # paper, section 4.2; PromptSRC's own code has 10 for images


class AnchoredClasses(NamedTuple):
    """Hold the classes, and the features that frozen CLIP gives them."""
    prompts: ClassPrompts
    frozen: Tensor         # [C, E] normalised mean over the templates

    def tokens(self) -> int:
        return self.prompts.tokens()


class PromptSRC(DeepPrompts):
    """Learn `ctx` [n, W] for the text tower's first layer, `text.i` [n, W] for layers 1..depth-1, n = `length`, and
    `vision.i` [m, W of the image tower] for layers 0..image_depth-1, m = `image_length`; None: as the text tower's.

    ctx starts from the handcrafted prompt (more than its 4 vectors can't); everything else from a normal
    distribution. The two towers' sizes differ only in prompts from PromptSRC's own files. Raises UserError if
    the towers can't take these depths or lengths.
    """

    published_as = "VLPromptLearner"

    def __init__(self, clip: CLIP, depth: int = 9, length: int = 4, generator: torch.Generator | None = None,
                 image_depth: int | None = None, image_length: int | None = None):
        super().__init__(clip, depth, length, generator)
        if image_depth is None:
            image_depth = depth
        if image_length is None:
            image_length = length
        if image_depth:
            check_depth(clip, image_depth, "image ")
        self.vision = nn.ParameterDict()
        for i in range(image_depth):
            self.vision[str(i)] = noise(image_length, clip.visual.class_embedding.numel(), generator)

    @staticmethod
    def published() -> dict[str, str]:
        names = {"ctx": "prompt_learner.ctx", "vision.0": "image_encoder.VPT"}
        for i in range(1, LAYERS):
            names[f"text.{i}"] = f"text_encoder.transformer.resblocks.{i}.VPT_shallow"
            names[f"vision.{i}"] = f"image_encoder.transformer.resblocks.{i}.VPT_shallow"
        return names

    def prepare(self, clip: CLIP, names: list[str]) -> AnchoredClasses:
        """Return the classes with frozen features: the mean of the templates' *unnormalised* ones, then normalised."""
        frozen = torch.stack([template_features(clip, t, names) for t in TEMPLATES]).mean(0)
        return AnchoredClasses(class_prompts(clip, names), normalize(frozen))

    @torch.no_grad()
    def inputs(self, clip: CLIP, images: Tensor) -> tuple[Tensor, ...]:
        """Return the images themselves, still bytes, and what frozen CLIP makes of them [B, E]."""
        return images, normalize(clip.encode_image(images))

    def image_prompts(self) -> list[Tensor]:
        return list(self.vision.values())

    def forward(self, clip: CLIP, classes: AnchoredClasses, images: Tensor, frozen: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the four terms for images [B, size, size, 3], their frozen features [B, E], labels [B]."""
        text, image = self.text_features(clip, classes.prompts), self.image_features(clip, images)
        return sum(loss_terms(clip, classes, text, image, frozen, labels).values())


def loss_terms(clip: CLIP, classes: AnchoredClasses, text: Tensor, image: Tensor, frozen: Tensor,
               labels: Tensor) -> dict[str, Tensor]:
    """Return the four terms, weighted, for prompted text [C, E] and image [B, E] features and frozen image features
    [B, E]."""
    logits = clip.logit_scale.exp() * image @ text.T
    frozen_logits = clip.logit_scale.exp() * frozen @ classes.frozen.T
    log_p, log_q = logits.log_softmax(-1), frozen_logits.log_softmax(-1)
    return {
        "ce": F.cross_entropy(logits, labels),
        "text": TEXT_WEIGHT * (text - classes.frozen).abs().mean(),
        "image": IMAGE_WEIGHT * (image - frozen).abs().mean(),
        "kl": (log_q.exp() * (log_q - log_p)).mean(),
    }
