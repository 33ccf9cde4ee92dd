"""Images on their way to the device: decoded, cropped and resized in threads.

Pillow does all three outside Python's lock, so threads are as quick as processes. Which views come in which order
depends on the seed, the dataset's name and the epoch, never on the number of threads.
"""
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.dataset import Item
from data.errors import DataError
from data.images import augment, crop_centre, open_image

VIEWS_AT_ONCE = 64  # test views that come together
AHEAD = 4 * VIEWS_AT_ONCE  # images that are prepared before they are asked for
KEPT = 2 * 2**30  # bytes of opened images that fine-tuning keeps


class Feed:
    """Views uint8 [B, size, size, 3] on `device`. `workers` threads decode files; None: one a core, at most 8."""

    def __init__(self, size: int, device: torch.device | str = "cpu", workers: int | None = None):
        self.size, self.device = size, torch.device(device)
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers

    def plain(self, items: Sequence[Item]) -> Iterator[Tensor]:
        """Yield test views of the items, in order, VIEWS_AT_ONCE at a time. Raises DataError naming a bad image."""
        return self.batches(in_order(self.view, [item.source for item in items], self.threads_for(items)))

    def view(self, source: str | np.ndarray) -> np.ndarray:
        """Return the test view of an image. Raises DataError if it can't be opened."""
        return np.asarray(crop_centre(open_image(source), self.size))

    def readable(self, items: Sequence[Item]) -> Iterator[tuple[Tensor, list[str]]]:
        """Yield views as `plain` does, and of each what is wrong with its image: "" with most.

        An image that can't be opened has a black view.
        """
        black = np.zeros((self.size, self.size, 3), np.uint8)
        attempts = in_order(partial(attempt, self.view), [item.source for item in items], self.threads_for(items))
        while batch := list(islice(attempts, VIEWS_AT_ONCE)):
            views = [black if view is None else view for view, _ in batch]
            yield self.arriving(np.stack(views)), [trouble for _, trouble in batch]

    def troubles(self, items: Sequence[Item]) -> Iterator[str]:
        """Yield for each image what is wrong with it; "" if it can be opened."""
        return in_order(lambda item: attempt(open_image, item.source)[1], items, self.threads_for(items))

    def augmented(self, items: list[Item], batch: int, seed: int,
                  name: str) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
        """Return a function from the epoch to its batches of training views: (images, labels [batch]).

        The items are opened at once; those that don't fit into KEPT are opened again in every epoch. Fewer items than
        a batch make one smaller batch; an incomplete last batch is dropped. `name` keeps datasets of the same seed
        apart. Raises DataError naming an unreadable image.
        """
        threads = self.threads_for(items)
        images, room = [], KEPT
        for image in in_order(open_image, [item.source for item in items], threads):
            room -= 4 * image.width * image.height  # Pillow has four bytes for an RGB pixel
            images.append(image if room >= 0 else None)
        labels = np.array([item.label for item in items])
        batch = min(batch, len(items))

        def batches_of(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            def view(i: int) -> np.ndarray:
                image = images[i] or open_image(items[i].source)
                return np.asarray(augment(image, self.size, random.Random(f"{seed}/{name}/{epoch}/{i}")))

            order = list(range(len(items)))
            random.Random(f"{seed}/{name}/{epoch}").shuffle(order)
            order = order[: len(items) // batch * batch]
            for number, views in enumerate(self.batches(in_order(view, order, threads), batch)):
                yield views, self.arriving(labels[order[number * batch : (number + 1) * batch]])

        return batches_of

    def threads_for(self, items: Sequence[Item]) -> int:
        """Return 0 for pixels in memory: such images are so small that a thread costs more than it saves."""
        return self.workers if isinstance(items[0].source, str) else 0

    def batches(self, views: Iterator[np.ndarray], size: int = VIEWS_AT_ONCE) -> Iterator[Tensor]:
        """Yield `size` views at a time. They stay bytes, a quarter of what floats take; CLIP normalises them."""
        while batch := list(islice(views, size)):
            yield self.arriving(np.stack(batch))

    def arriving(self, array: np.ndarray) -> Tensor:
        """Return the array on the device; from pinned memory, so that a copy to a GPU doesn't hold up the program."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def attempt(function: Callable, source: str | np.ndarray) -> tuple[Any, str]:
    """Return what a function makes of an image, and ""; or None, and what is wrong with the image."""
    try:
        return function(source), ""
    except DataError as e:
        return None, str(e)


def in_order(function: Callable, arguments: Sequence, threads: int) -> Iterator:
    """Yield function(argument) of each, in their order; computed in threads, up to AHEAD before they are asked for.

    Whatever ends it, an error or a consumer that stops, no thread is left.
    """
    if not threads:
        yield from map(function, arguments)
        return
    pool = ThreadPoolExecutor(threads)
    waiting = deque()
    try:
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
