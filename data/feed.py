"""Images on their way to the device: decoded, cropped and resized in threads.

Pillow does all three outside Python's lock, so threads are as quick as processes. Which views come in which order
depends on the seed, the dataset's name and the epoch, never on the number of threads.
"""
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

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
        """Test views of the items, in order, at most VIEWS_AT_ONCE at a time. Raises DataError naming a bad image."""
        views = in_order(self.view, [item.source for item in items], self.threads_for(items))
        for _ in range(0, len(items), VIEWS_AT_ONCE):
            yield self.batch_of(views, VIEWS_AT_ONCE)

    def view(self, source: str | np.ndarray) -> np.ndarray:
        return np.asarray(crop_centre(open_image(source), self.size))

    def readable(self, items: Sequence[Item]) -> Iterator[tuple[Tensor, list[str]]]:
        """As `plain`, and what is wrong with each image, "" with most; one that can't be opened has a black view."""
        def attempt(item: Item) -> tuple[np.ndarray, str]:
            try:
                return self.view(item.source), ""
            except DataError as e:
                return np.zeros((self.size, self.size, 3), np.uint8), str(e)

        attempts = in_order(attempt, items, self.threads_for(items))
        while some := list(islice(attempts, VIEWS_AT_ONCE)):
            views, troubles = zip(*some)
            yield self.arriving(np.stack(views)), list(troubles)

    def augmented(self, items: list[Item], batch: int, seed: int,
                  name: str) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
        """epoch -> batches (images, labels [batch]). The items are opened at once, and those that don't fit into KEPT
        again in every epoch.

        Fewer items than a batch make one smaller batch; an incomplete last batch is dropped. `name` keeps datasets
        of the same seed apart. Raises DataError naming an unreadable image.
        """
        threads = self.threads_for(items)
        images, room = [], KEPT
        for image in in_order(open_image, [item.source for item in items], threads):
            room -= 4 * image.width * image.height  # Pillow has four bytes for an RGB pixel
            images.append(image if room >= 0 else None)
        labels = np.array([item.label for item in items])
        batch = min(batch, len(items))

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            def view(i: int) -> np.ndarray:
                image = images[i] or open_image(items[i].source)
                return np.asarray(augment(image, self.size, random.Random(f"{seed}/{name}/{epoch}/{i}")))

            order = list(range(len(items)))
            random.Random(f"{seed}/{name}/{epoch}").shuffle(order)
            order = order[: len(items) // batch * batch]
            views = in_order(view, order, threads)
            for start in range(0, len(order), batch):
                yield self.batch_of(views, batch), self.arriving(labels[order[start : start + batch]])

        return batches

    def troubles(self, items: Sequence[Item]) -> Iterator[str]:
        """For each image what is wrong with it; "" if it can be opened."""
        def trouble(item: Item) -> str:
            try:
                open_image(item.source)
                return ""
            except DataError as e:
                return str(e)

        return in_order(trouble, items, self.threads_for(items))

    def threads_for(self, items: Sequence[Item]) -> int:
        """0 for pixels in memory: such images are so small that a thread costs more than it does."""
        return self.workers if isinstance(items[0].source, str) else 0

    def arriving(self, array: np.ndarray) -> Tensor:
        """The array on the device; from pinned memory, so that a copy to a GPU doesn't hold up the program."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def batch_of(self, views: Iterator[np.ndarray], n: int) -> Tensor:
        """At most n of the next views. They stay bytes, a quarter of what floats take; CLIP normalises them."""
        return self.arriving(np.stack(list(islice(views, n))))


def in_order(function: Callable, arguments: Sequence, threads: int) -> Iterator:
    """function(argument) of each, in their order; computed in threads, up to AHEAD before they are asked for.

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
