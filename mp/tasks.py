"""Few-shot tasks: one dataset each, divided anew into support and query images in every epoch."""
import sys
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data.dataset import Dataset, Item, few_shot
from mp.maml import Batch
from mp.runtime.progress import say
from mp.commands.session import Session
from mp.settings import MetaSettings

SECOND_ORDER = 3  # the gradient of a gradient keeps about so many times what a gradient does; measured


class Task(NamedTuple):
    """One training dataset as a learner sees it: N images a class."""
    name: str
    classes: tuple
    inputs: tuple[Tensor, ...]  # each [n, ...]; none if another process has this task
    labels: Tensor              # [n]
    at_once: int = sys.maxsize  # images of a batch that go through the model together; more are too much for the memory


def make_task(session: Session, learner: nn.Module, name: str, settings: MetaSettings) -> Task:
    """N images of every class of a dataset, looked at once: images seen plainly, without augmentation."""
    dataset = session.suite.load(name)
    items = draw_shots(dataset, settings.shots, settings.seed)
    inputs = [[t.cpu() for t in learner.look(session.clip, images)] for images in session.feed.plain(items)]
    classes = learner.prepare(session.clip, dataset.classes)
    at_once = session.clip.memory // (SECOND_ORDER * max(1, learner.kept_bytes(session.clip, classes)))
    return Task(name, classes, tuple(torch.cat(t) for t in zip(*inputs)), torch.tensor([item.label for item in items]),
                max(1, at_once))


def elsewhere(name: str) -> Task:
    """A task that another process computes."""
    return Task(name, (), (), torch.empty(0))


def divide(labels: np.ndarray, support: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Line 4: indices of K support images of every class, and of the others, the query images.

    A class of K images or fewer keeps one for the query set.
    """
    parts = []
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        k = min(support, max(1, len(order) - 1))
        parts.append((order[:k], order[k:]))
    return tuple(np.concatenate(p) for p in zip(*parts))


def mini_batches(indices: np.ndarray, size: int, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`count` batches of the shuffled indices, reshuffled when too few are left for another."""
    size, left, batches = min(size, len(indices)), np.empty(0, int), []
    for _ in range(count):
        if len(left) < size:
            left = rng.permutation(indices)
        batches.append(left[:size])
        left = left[size:]
    return batches


def draw_batches(task: Task, settings: MetaSettings, epoch: int, number: int) -> tuple[list[Batch], Batch]:
    """The support batches and the query batch of one task in one epoch, in parts of `task.at_once` images.

    They depend on (seed, epoch, task) alone, so a resumed run and one shared out over processes draw the same.
    """
    rng = np.random.default_rng([settings.seed, epoch, number])
    support, query = divide(task.labels.numpy(), settings.support, rng)
    inner = mini_batches(support, settings.batch, settings.inner_steps, rng)
    if settings.query_batch == 0:
        outer, at_once = query, min(settings.batch, task.at_once)
    else:
        size = settings.batch if settings.query_batch < 0 else settings.query_batch
        outer, at_once = *mini_batches(query, size, 1, rng), task.at_once
    return [parts(indices, task.at_once) for indices in inner], parts(outer, at_once)


def parts(indices: np.ndarray, at_once: int) -> Batch:
    """Parts of a batch, weighted so that the mean over its images is the weighted sum of the parts' means."""
    return [(part, len(part) / len(indices)) for part in
            (indices[i : i + at_once] for i in range(0, len(indices), at_once))]


def draw_shots(dataset: Dataset, shots: int, seed: int) -> list[Item]:
    """`shots` training images of every class; says which classes have fewer, and uses what they have."""
    items = few_shot(dataset.train, shots, seed)
    counts = np.bincount([item.label for item in items], minlength=len(dataset.classes))
    if few := [f"{dataset.classes[i]} ({n})" for i, n in enumerate(counts) if n < shots]:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        say(f"{dataset.name}: fewer than {shots} training images of {', '.join(few[:5])}{more}; using what there is")
    return items
