"""Accuracy on base, new and all classes, from one pass over a dataset's test images."""
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from data.dataset import Dataset, class_range
from data.images import load_images
from mp.clip import CLIP
from mp.prompts import normalize, template_features

PARTS = ("base", "new", "all")
CHUNK = 256  # images encoded at a time


def accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Per cent correct for logits [n, C] and labels [n]: of all, and of base (new) images among base (new) classes.

    A part without test images has no entry.
    """
    result = {}
    for part in PARTS:
        classes = class_range(logits.shape[1], part)
        mine = (labels >= classes.start) & (labels < classes.stop)
        if mine.any():
            right = logits[mine, classes.start : classes.stop].argmax(-1) == labels[mine] - classes.start
            result[part] = 100 * right.double().mean().item()
    return result


class TestSet:
    """A dataset's test images. The frozen tower's features are computed once and shared by all text-side prompts."""

    def __init__(self, dataset: Dataset, clip: CLIP):
        self.dataset, self.clip = dataset, clip
        self.labels = torch.tensor([item.label for item in dataset.test])
        self.kept: Tensor | None = None

    def images(self) -> Iterator[Tensor]:
        for i in range(0, len(self.dataset.test), CHUNK):
            images = load_images(self.dataset.test[i : i + CHUNK], self.clip.visual.image_size)
            yield images.to(self.clip.logit_scale.device)

    @torch.no_grad()
    def features(self) -> Tensor:
        """Normalised features [n, E] of frozen CLIP."""
        if self.kept is None:
            self.kept = torch.cat([normalize(self.clip.encode_image(images)) for images in self.images()])
        return self.kept

    @torch.no_grad()
    def handcrafted(self, template: str) -> dict[str, float]:
        """Zero-shot accuracies with the same template, such as "a photo of a {}.", for every class."""
        text = normalize(template_features(self.clip, template, self.dataset.classes))
        return accuracies((self.features() @ text.T).cpu(), self.labels)

    @torch.no_grad()
    def learnt(self, learner: nn.Module) -> dict[str, float]:
        """Accuracies with a learner's prompts."""
        classes = learner.prepare(self.clip, self.dataset.classes)
        if learner.sees_images:
            logits = [learner(self.clip, classes, images, None) for images in self.images()]
        else:
            logits = [learner(self.clip, classes, features) for features in self.features().split(CHUNK)]
        return accuracies(torch.cat(logits).cpu(), self.labels)
