"""Images on their way to the device: decoded, cropped and resized in worker processes, normalised on the device.

Which views come in which order depends on the seed, the dataset's name and the epoch, never on the number of
workers. They travel as bytes, a quarter of what floats take, and through pipes: shared memory may be too small, and a
worker that gets none is waited for in vain.
"""
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.dataset import Item
from data.errors import DataError
from data.images import augment, crop_centre, normalise, open_image

VIEWS_AT_ONCE = 64  # test views that travel together


class PlainViews(Dataset):
    """A range of items -> their test views, uint8 [n, size, size, 3]; or the error, for the main process to raise."""

    def __init__(self, items: Sequence[Item], size: int):
        self.items, self.size = items, size

    def __getitem__(self, chosen: range) -> np.ndarray | DataError:
        try:
            views = [crop_centre(open_image(self.items[i].source), self.size) for i in chosen]
        except DataError as e:
            return e
        return np.stack(views)


class AugmentedViews(Dataset):
    """An epoch and indices -> training views of decoded images, uint8 [n, size, size, 3], and labels [n]."""

    def __init__(self, images: list[Image], labels: np.ndarray, size: int, name: str):
        self.images, self.labels = images, labels
        self.size, self.name = size, name

    def __getitem__(self, chosen: tuple[int, list[int]]) -> tuple[np.ndarray, np.ndarray]:
        epoch, indices = chosen
        views = []
        for i in indices:
            rng = random.Random(f"{self.name}/{epoch}/{i}")
            views.append(augment(self.images[i], self.size, rng))
        return np.stack(views), self.labels[indices]


class Unreadable(Dataset):
    """A range of items -> what is wrong with those that can't be opened."""

    def __init__(self, items: Sequence[Item]):
        self.items = items

    def __getitem__(self, chosen: range) -> list[str]:
        found = []
        for i in chosen:
            try:
                open_image(self.items[i].source)
            except DataError as e:
                found.append(str(e))
        return found


class Batches:
    """The sampler of training views: (epoch, shuffled indices [batch]), an incomplete last batch dropped."""

    def __init__(self, items: int, batch: int, name: str):
        self.items, self.batch = items, min(batch, items)
        self.name, self.epoch = name, 0

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        order = list(range(self.items))
        random.Random(f"{self.name}/{self.epoch}").shuffle(order)
        for start in range(0, self.items - self.batch + 1, self.batch):
            yield self.epoch, order[start : start + self.batch]


class Feed:
    """Views float32 [B, 3, size, size] on `device`. `workers` processes decode files; None: one a core, at most 8."""

    def __init__(self, size: int, device: torch.device | str = "cpu", workers: int | None = None):
        self.size, self.device = size, torch.device(device)
        self.workers = min(8, usable_cores()) if workers is None else workers

    def plain(self, items: Sequence[Item]) -> Iterator[Tensor]:
        """Test views of the items, in order, at most VIEWS_AT_ONCE at a time. Raises DataError naming a bad image."""
        for pixels in self.loader(PlainViews(items, self.size), chunks(items), items):
            if isinstance(pixels, DataError):
                raise pixels  # what a worker met
            yield normalise(self.arriving(pixels))

    def augmented(self, items: list[Item], batch: int, seed: int,
                  name: str) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
        """epoch -> batches (images, labels [batch]). The items, few-shot ones, are decoded once and kept in memory.

        Fewer items than a batch make one smaller batch. `name` keeps datasets of the same seed apart.
        Raises DataError naming an unreadable image.
        """
        with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
            images = list(pool.map(open_image, [item.source for item in items]))
        views = AugmentedViews(images, np.array([item.label for item in items]), self.size, f"{seed}/{name}")
        sampler = Batches(len(items), batch, f"{seed}/{name}")
        loader = self.loader(views, sampler, items, keep_workers=True)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            sampler.epoch = epoch
            for pixels, labels in loader:
                yield normalise(self.arriving(pixels)), self.arriving(labels)

        return batches

    def unreadable(self, items: Sequence[Item]) -> Iterator[list[str]]:
        """What is wrong with the images that can't be opened, one list for each of `chunks(items)`."""
        return iter(self.loader(Unreadable(items), chunks(items), items))

    def loader(self, views: Dataset, sampler, items: Sequence[Item], keep_workers: bool = False) -> DataLoader:
        """What `views` gives for each entry of the sampler; from worker processes if there are many files."""
        workers = self.workers
        few = len(items) <= VIEWS_AT_ONCE and not keep_workers
        if few or isinstance(items[0].source, np.ndarray):
            workers = 0
        # Workers are forked where that is safe, on Linux: another start would import torch in each of them.
        start = "fork" if workers and sys.platform == "linux" else None
        return DataLoader(views, batch_size=None, sampler=sampler, num_workers=workers, collate_fn=as_it_is,
                          persistent_workers=keep_workers and workers > 0, multiprocessing_context=start)

    def arriving(self, array: np.ndarray) -> Tensor:
        return to_device(torch.from_numpy(array), self.device)


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; from pinned memory, so that a copy to a GPU doesn't hold up the program."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def as_it_is(batch):
    """Arrays stay arrays: the loader would make tensors of them, which travel through shared memory."""
    return batch


def chunks(items: Sequence[Item]) -> list[range]:
    """The items' indices in ranges of VIEWS_AT_ONCE, the last one shorter."""
    indices = range(len(items))
    return [indices[start : start + VIEWS_AT_ONCE] for start in range(0, len(items), VIEWS_AT_ONCE)]
