"""Accuracy on base, new and all classes, from one pass over a dataset's test images."""
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.dataset import DataError, Dataset, class_range
from data.feed import Feed
from mp.store import cache
from mp.clip.model import CLIP
from mp.runtime.errors import RunError
from mp.runtime.progress import Progress, say
from mp.learners.prompts import class_prompts, normalize, template_features

PARTS = ("base", "new", "all")
CHUNK = 256  # images classified at a time
VIEWS = "1"  # changes with data/images.py: features of other views of the same images aren't taken from the cache


def accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Per cent correct for logits [n, C] and labels [n]: of all, and of base (new) images among base (new) classes.

    A part without test images has no entry. Raises RunError if a logit isn't finite.
    """
    if not logits.isfinite().all():
        raise RunError("the logits of test images aren't all finite, so no accuracy is; make the prompt again")
    result = {}
    for part in PARTS:
        classes = class_range(logits.shape[1], part)
        mine = (labels >= classes.start) & (labels < classes.stop)
        if mine.any():
            right = logits[mine, classes.start : classes.stop].argmax(-1) == labels[mine] - classes.start
            result[part] = 100 * right.double().mean().item()
    return result


class TestSet:
    """A dataset's test images. The frozen tower's features are computed once and shared by all text-side prompts.

    Those of image files are also kept in the cache folder from run to run, if `keep` is given: what they depend
    on besides the images, namely weights, device and precision.
    """

    def __init__(self, dataset: Dataset, clip: CLIP, feed: Feed, keep: str | None = None):
        self.dataset, self.clip, self.feed = dataset, clip, feed
        self.keep = None if isinstance(dataset.test[0].source, np.ndarray) else keep
        self.labels = torch.tensor([item.label for item in dataset.test])
        self.kept: Tensor | None = None

    @torch.no_grad()
    def features(self) -> Tensor:
        """Normalised features [n, E] of frozen CLIP."""
        if self.kept is None:
            path = self.cache_file() if self.keep else None
            shape = len(self.dataset.test), self.clip.text_projection.shape[1]
            self.kept = cache.read_tensor(path, shape) if path else None
            if self.kept is None:
                self.kept = torch.cat([normalize(self.clip.encode_image(views)) for views in self.images()])
                if path and (trouble := cache.keep(path, self.kept.cpu())):
                    say(f"{self.dataset.name}: the features are computed again next time: {trouble}")
            self.kept = self.kept.to(self.feed.device)
        return self.kept

    def cache_file(self) -> Path:
        """Named after all that the features depend on; of an image, its path, size and time of change."""
        try:
            stats = [os.stat(item.source) for item in self.dataset.test]
        except OSError as e:
            raise DataError(f"{e.filename}: no such image; the dataset is incomplete, unpack it again") from None
        images = (f"{item.source}\0{s.st_size}\0{s.st_mtime_ns}" for item, s in zip(self.dataset.test, stats))
        name = self.dataset.name.replace(" ", "")
        return cache.folder() / "features" / f"{name}-{cache.digest(VIEWS, self.keep, *images)[:32]}.pt"

    def images(self) -> Iterator[Tensor]:
        """Test views, some at a time, with a line of progress if it takes long."""
        progress, done, total = Progress(f"{self.dataset.name}: test image", patience=5), 0, len(self.dataset.test)
        for views in self.feed.plain(self.dataset.test):
            yield views
            done += len(views)
            progress.update(done, total)

    @torch.no_grad()
    def handcrafted(self, template: str) -> dict[str, float]:
        """Zero-shot accuracies with the same template, such as "a photo of a {}.", for every class."""
        text = normalize(template_features(self.clip, template, self.dataset.classes))
        return accuracies((self.features() @ text.T).cpu(), self.labels)

    @torch.no_grad()
    def learnt(self, learner: nn.Module) -> dict[str, float]:
        """Accuracies with a learner's prompts."""
        classes = class_prompts(self.clip, self.dataset.classes)  # all that logits need, whatever the method
        inputs = self.images() if learner.sees_images else self.features().split(CHUNK)
        logits = map(learner.classifier(self.clip, classes), inputs)
        return accuracies(torch.cat(list(logits)).cpu(), self.labels)
