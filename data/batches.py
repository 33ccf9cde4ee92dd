"""Augmented training batches whose order and randomness depend on the seed alone."""
import random
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from data.dataset import Item
from data.images import augment, open_image


def augmented_batches(items: list[Item], image_size: int, batch: int, seed: int,
                      name: str) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    """epoch -> batches (images [batch, 3, size, size], labels [batch]) of the shuffled items.

    An incomplete last batch is dropped; fewer items than a batch make one smaller batch. The images,
    few-shot ones, are decoded once. `name` keeps datasets of the same seed apart.
    """
    images = [open_image(item.source) for item in items]
    labels = torch.tensor([item.label for item in items])
    size = min(batch, len(items))

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = list(range(len(items)))
        random.Random(f"{seed}/{name}/{epoch}").shuffle(order)
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield torch.stack([augment(images[i], image_size, random.Random(f"{seed}/{name}/{epoch}/{i}"))
                               for i in chosen]), labels[chosen]

    return batches
