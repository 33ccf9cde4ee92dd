"""One dataset, and the rules every experiment shares: few-shot sampling, and base and new classes."""
import hashlib
import math
import os
import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mp.runtime.errors import UserError


class DataError(UserError):
    """A dataset is missing, damaged or too small; the message names it and says what to do."""


class Item(NamedTuple):
    source: str | np.ndarray  # an image file, or uint8 pixels [height, width, 3]
    label: int                # index into Dataset.classes


@dataclass(frozen=True)
class Dataset:
    """Images of named classes, divided into train and test.

    `role` is "train" for the datasets that meta-training uses and "test" for those held out
    (the paper's Table 1); both kinds have train and test images. `template` is the handcrafted
    prompt of the zero-shot baseline, with {} for the class name.
    """
    name: str
    role: str
    template: str
    classes: list[str]
    train: list[Item]
    test: list[Item]

    def digest(self) -> str:
        """Of the classes' and image files' names, wherever the folder is. Two folders may share a name and all counts."""
        items = (f"{item.label}/{'' if isinstance(item.source, np.ndarray) else os.path.basename(item.source)}"
                 for item in self.train + self.test)
        return hashlib.sha256("\0".join([*self.classes, *items]).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def base_count(n_classes: int) -> int:
    """How many of the sorted labels are base classes: the first ceil(n/2); the rest are new."""
    return math.ceil(n_classes / 2)


def class_range(n_classes: int, part: str) -> range:
    """Labels of the part "base", "new" or "all".

    >>> list(class_range(5, "base")), list(class_range(5, "new"))
    ([0, 1, 2], [3, 4])
    """
    base = base_count(n_classes)
    return {"base": range(base), "new": range(base, n_classes), "all": range(n_classes)}[part]


def few_shot(items: list[Item], shots: int, seed: int) -> list[Item]:
    """At most `shots` items of every class: the very images the published benchmarks draw for `seed`.

    Classes are visited in order of first appearance, each sampled with Python's `random` seeded
    once. Restrict to base or new classes afterwards, never before: the draw depends on all of them.
    """
    by_label: dict[int, list[Item]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    rng = random.Random(seed)
    drawn: list[Item] = []
    for group in by_label.values():
        drawn += rng.sample(group, shots) if len(group) >= shots else group
    return drawn


def restrict(items: list[Item], n_classes: int, part: str) -> list[Item]:
    """The items whose class belongs to `part`, relabelled from 0."""
    labels = class_range(n_classes, part)
    return [Item(item.source, item.label - labels.start) for item in items if item.label in labels]
