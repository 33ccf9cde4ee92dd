"""Make few-shot tasks: a dataset each, divided anew into support and query images in every epoch."""
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mp.clip.model import CLIP, SECOND_ORDER
from mp.learners import Learner
from mp.maml import Batch
from mp.runtime.errors import UserError
from mp.settings import MetaSettings

Indices = np.ndarray  # of a task's images


class Task(NamedTuple):
    """Hold a training dataset as a learner sees it: N images a class. If another process computes it, only a name."""
    name: str
    classes: Any = None              # as the learner prepared them
    inputs: tuple[Tensor, ...] = ()  # of the learner, each [n, ...]
    labels: Tensor = torch.empty(0)  # [n]
    at_once: int = sys.maxsize  # images of a batch that go through the model together; more are too much for the memory
    image_bytes: int = 0        # bytes that an image adds to what an inner step keeps for its second derivative
    class_bytes: int = 0        # bytes that the classes add, however many images there are
    memory: int = 0             # bytes that there are for all of it


def make_task(learner: Learner, clip: CLIP, name: str, class_names: list[str], views: Iterable[Tensor],
              labels: Sequence[int]) -> Task:
    """Make a task from images seen plainly: `views` [B, size, size, 3], some at a time, and the label of each, an index
    into `class_names`. What doesn't depend on the prompt is computed here, once.

    Raises UserError if no class has two images, or a class name doesn't fit.
    """
    labels = [int(label) for label in labels]
    check_divisible(name, class_names, labels)
    inputs = []
    for images in views:
        inputs.append([tensor.cpu() for tensor in learner.inputs(clip, images)])
    classes = learner.prepare(clip, class_names)
    inputs = tuple(torch.cat(parts) for parts in zip(*inputs))
    return Task(name, classes, inputs, torch.tensor(labels), **costs(learner, clip, classes))


def costs(learner: Learner, clip: CLIP, classes: Any) -> dict[str, int]:
    """Return what a task's second derivatives keep, and how many images have room beside the classes.

    At least half of the memory is for images: every part of a batch computes the classes again, which many small parts
    would do too often.
    """
    image_bytes = SECOND_ORDER * max(1, learner.image_bytes(clip, classes))
    class_bytes = SECOND_ORDER * learner.class_bytes(clip, classes)
    room = max(clip.memory - class_bytes, clip.memory // 2)
    at_once = max(1, room // image_bytes)
    return dict(at_once=at_once, image_bytes=image_bytes, class_bytes=class_bytes, memory=clip.memory)


def check_divisible(name: str, class_names: list[str], labels: Sequence[int]) -> None:
    """Raise UserError if no class has the two images that it takes to divide them into support and query images."""
    if len(set(labels)) == len(labels):
        raise UserError(f"{name}: one training image of each class, such as {class_names[labels[0]]!r}; meta-training "
                        "needs a support and a query image of at least one class: add images")


def kept_graphs(task: Task, settings: MetaSettings) -> int:
    """Return how many inner steps' graphs the memory holds until the way back, beside the one that is computed anew."""
    step = settings.batch * task.image_bytes + task.class_bytes
    return min(settings.inner_steps, max(0, task.memory // max(1, step) - 1))


def divide(labels: np.ndarray, support: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Draw (line 4) K support images of every class; the others are the query images. Return the indices
    of the support images, then those of the query images.

    A class of K images or fewer keeps one for the query set; the image of a class that has only one is for support.
    """
    support_set, query_set = [], []
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        k = min(support, max(1, len(order) - 1))
        support_set.append(order[:k])
        query_set.append(order[k:])
    return np.concatenate(support_set), np.concatenate(query_set)


def mini_batches(indices: Indices, size: int, count: int, rng: np.random.Generator) -> list[Indices]:
    """Return `count` batches of the shuffled indices, reshuffled when too few are left for another."""
    size = min(size, len(indices))
    left = np.empty(0, int)
    batches = []
    for _ in range(count):
        if len(left) < size:
            left = rng.permutation(indices)
        batches.append(left[:size])
        left = left[size:]
    return batches


def draw_batches(task: Task, settings: MetaSettings, epoch: int, number: int) -> tuple[list[Batch], Batch]:
    """Draw (line 4) a task's support batches, one an inner step, and its query batch in an epoch, in parts of
    `task.at_once` images.

    They depend on (seed, epoch, number) alone: a resumed run, and one shared out over processes, draw the same.
    """
    rng = np.random.default_rng([settings.seed, epoch, number])
    support, query = divide(task.labels.numpy(), settings.support, rng)
    steps = mini_batches(support, settings.batch, settings.inner_steps, rng)
    inner = [in_parts(indices, task.at_once) for indices in steps]
    if settings.query_batch == 0:
        return inner, in_parts(query, min(settings.batch, task.at_once))
    size = settings.batch if settings.query_batch < 0 else settings.query_batch
    outer, = mini_batches(query, size, 1, rng)
    return inner, in_parts(outer, task.at_once)


def in_parts(indices: Indices, at_once: int) -> Batch:
    """Cut a batch into parts, weighted so that the mean over its images is the weighted sum of the parts' means."""
    parts = [indices[i : i + at_once] for i in range(0, len(indices), at_once)]
    return [(part, len(part) / len(indices)) for part in parts]
