"""One dataset, and the rules that every experiment shares: few-shot sampling, and base and new classes."""
import hashlib
import json
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.errors import DataError, unreadable_image
from data.names import composed

SAMPLE = 4096  # bytes that are read at the start, in the middle and at the end of a file, to know it by


class Item(NamedTuple):
    source: str | np.ndarray  # an image file, or uint8 pixels [height, width, 3]
    label: int                # index into Dataset.classes


@dataclass(frozen=True)
class Dataset:
    """Images of named classes, divided into train and test."""
    name: str
    template: str  # handcrafted prompt of the zero-shot baseline, with {} for the class name
    classes: list[str]
    train: list[Item]
    test: list[Item]
    notes: Sequence[str] = ()  # what to tell whoever uses it

    def fingerprint(self, items: list[Item]) -> str:
        """Return 16 hex digits by which results and prompts know the images that they were tested and trained on.

        They depend on the class names and on the items: their order, labels, and pixels or files. A file counts by its
        path below the folder that all share, its size, and 4 KiB at its start, middle and end. A change between these
        that keeps the size isn't seen. Raises DataError if a file is absent.
        """
        files = [item.source for item in items if isinstance(item.source, str)]
        start = os.path.commonprefix(files).rfind("/") + 1
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for item in items:
            digest.update(f"\0{item.label} ".encode())
            digest.update(image_identity(item.source, start))
        return digest.hexdigest()[:16]


def image_identity(source: str | np.ndarray, start: int) -> bytes:
    """Return an array's shape and pixels; or a file's size, path from character `start` on, and bytes in three places.

    Raises DataError if the file can't be read.
    """
    if isinstance(source, np.ndarray):
        return f"{source.shape} ".encode() + source.tobytes()
    try:
        with open(source, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            samples = b""
            for place in (0, size // 2, max(0, size - SAMPLE)):
                file.seek(place)
                samples += file.read(SAMPLE)
    except (OSError, ValueError) as e:  # ValueError: no system has files of such names
        raise DataError(unreadable_image(source, e)) from None
    return f"{size} {composed(source[start:])}\0".encode("utf-8", "surrogatepass") + samples


def class_range(n_classes: int, part: str) -> range:
    """Return the labels of a part of the classes: "base" is the first half, rounded up, "new" the rest, "all" both.

    >>> list(class_range(5, "base")), list(class_range(5, "new"))
    ([0, 1, 2], [3, 4])
    """
    n_base = math.ceil(n_classes / 2)
    return {"base": range(n_base), "new": range(n_base, n_classes), "all": range(n_classes)}[part]


def few_shot(items: list[Item], shots: int, seed: int) -> list[Item]:
    """Draw at most `shots` items of every class: the very images that the published benchmarks draw for `seed`.

    ImageNet's are others: the benchmarks' code lists its folders unsorted, so that their draw depends on the file
    system. Restrict to base or new classes afterwards: the draw depends on all classes, in order of appearance.
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
    """Return the items whose class belongs to `part` (see `class_range`), relabelled from 0."""
    labels = class_range(n_classes, part)
    return [Item(item.source, item.label - labels.start) for item in items if item.label in labels]
