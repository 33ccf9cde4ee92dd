"""One dataset, and the rules every experiment shares: few-shot sampling, and base and new classes."""
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
        """16 hex digits of the class names and of what the items are: their order, labels, pixels or files.

        By it results and prompts know the images they were tested and trained on, wherever the folder lies: of a file
        counts its path below the folder that all share, its size, and 4 KiB at its start, middle and end. It can't see
        a change between these that keeps the size. Raises DataError if a file is absent.
        """
        files = [item.source for item in items if isinstance(item.source, str)]
        start = os.path.commonprefix(files).rfind("/") + 1
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for item in items:
            digest.update(f"\0{item.label} ".encode())
            digest.update(image_identity(item.source, start))
        return digest.hexdigest()[:16]


def image_identity(source: str | np.ndarray, start: int) -> bytes:
    """An array's shape and pixels; a file's size, its path from character `start` on, and its bytes in three places."""
    if isinstance(source, np.ndarray):
        return f"{source.shape} ".encode() + source.tobytes()
    try:
        with open(source, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            seen = b""
            for place in (0, size // 2, max(0, size - SAMPLE)):
                file.seek(place)
                seen += file.read(SAMPLE)
    except (OSError, ValueError) as e:  # ValueError: no system has files of such names
        raise DataError(unreadable_image(source, e)) from None
    return f"{size} {composed(source[start:])}\0".encode("utf-8", "surrogatepass") + seen


def class_range(n_classes: int, part: str) -> range:
    """Labels of the part "base", which is the first half, rounded up, "new" or "all".

    >>> list(class_range(5, "base")), list(class_range(5, "new"))
    ([0, 1, 2], [3, 4])
    """
    base = math.ceil(n_classes / 2)
    return {"base": range(base), "new": range(base, n_classes), "all": range(n_classes)}[part]


def few_shot(items: list[Item], shots: int, seed: int) -> list[Item]:
    """At most `shots` items of every class: the very images the published benchmarks draw for `seed`, but ImageNet's.
    Of these the benchmarks' own draw depends on the file system, because their code lists folders unsorted.

    Restrict to base or new classes afterwards, never before: the draw depends on all of them, in order of appearance.
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
