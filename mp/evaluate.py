"""Compute the accuracy on base, new and all classes, in one pass over a dataset's test images."""
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from data.dataset import Dataset, class_range
from mp.clip.model import CLIP
from mp.learners import Learner
from mp.learners.prompts import class_prompts, normalize, template_features
from mp.runtime.errors import RunError
from mp.settings import PARTS

FEATURES_AT_ONCE = 256  # classified together
Classify = Callable[[Tensor], Tensor]  # from views [B, size, size, 3] to logits [B, C]


def words_classifier(clip: CLIP, words: str, names: list[str]) -> Classify:
    """Return a classifier of views by the same words, such as "a photo of a {}.", for every class name."""
    text = normalize(template_features(clip, words, names))                                 # [C, E]
    return lambda views: clip.logit_scale.exp() * normalize(clip.encode_image(views)) @ text.T


def learnt_classifier(learner: Learner, clip: CLIP, names: list[str]) -> Classify:
    """Return a classifier of views by a learner's prompts."""
    classify = learner.classifier(clip, class_prompts(clip, names))
    return classify if learner.sees_images else lambda views: classify(normalize(clip.encode_image(views)))


def accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the per cent correct for logits [n, C] and labels [n]: of all images, and of base (new) images among base
    (new) classes.

    A part without test images has no entry, nor has one of a single class, in which nothing can be wrong. Raises
    RunError if a logit isn't finite.
    """
    if not logits.isfinite().all():
        raise RunError("the logits of test images aren't all finite, so no accuracy is; make the prompt again")
    result = {}
    for part in PARTS:
        classes = class_range(logits.shape[1], part)
        in_part = (labels >= classes.start) & (labels < classes.stop)
        if in_part.any() and len(classes) > 1:
            predicted = logits[in_part, classes.start : classes.stop].argmax(-1)
            right = predicted == labels[in_part] - classes.start
            result[part] = 100 * right.double().mean().item()
    return result


class TestSet:
    """Hold a dataset's test images. The frozen tower's features are computed once and shared by all text-side prompts.

    `views`: gives all test views in order, [B, size, size, 3], some at a time. `recall`: is given the function that
    computes the features, and may have them already.
    """

    def __init__(self, dataset: Dataset, clip: CLIP, views: Callable[[], Iterator[Tensor]],
                 recall: Callable[[Callable[[], Tensor]], Tensor] = lambda compute: compute()):
        self.dataset, self.clip, self.views, self.recall = dataset, clip, views, recall
        self.labels = torch.tensor([item.label for item in dataset.test])

    @cached_property
    def features(self) -> Tensor:
        """Return normalised features [n, E] of frozen CLIP."""
        return self.recall(self.compute_features).to(self.clip.logit_scale.device)

    @torch.no_grad()
    def compute_features(self) -> Tensor:
        return torch.cat([normalize(self.clip.encode_image(images)) for images in self.views()])

    @torch.no_grad()
    def handcrafted(self, template: str) -> dict[str, float]:
        """Return zero-shot accuracies with the same template, such as "a photo of a {}.", for every class."""
        text = normalize(template_features(self.clip, template, self.dataset.classes))
        return accuracies((self.features @ text.T).cpu(), self.labels)

    @torch.no_grad()
    def learnt(self, learner: Learner) -> dict[str, float]:
        """Return accuracies with a learner's prompts."""
        prompts = class_prompts(self.clip, self.dataset.classes)  # not `prepare`: what only the loss needs is left out
        classify = learner.classifier(self.clip, prompts)
        inputs = self.views() if learner.sees_images else self.features.split(FEATURES_AT_ONCE)
        logits = [classify(part) for part in inputs]
        return accuracies(torch.cat(logits).cpu(), self.labels)
