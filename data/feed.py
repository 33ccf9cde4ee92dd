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
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.dataset import DataError, Item
from data.images import augment, crop_centre, normalise, open_image

CHUNK = 64  # test views that travel together


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

    def __init__(self, images: list, labels: np.ndarray, size: int, name: str):
        self.images, self.labels, self.size, self.name = images, labels, size, name

    def __getitem__(self, chosen: tuple[int, list[int]]) -> tuple[np.ndarray, np.ndarray]:
        epoch, indices = chosen
        views = [augment(self.images[i], self.size, random.Random(f"{self.name}/{epoch}/{i}")) for i in indices]
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
    """The sampler of training views: the shuffled items of one epoch, an incomplete last batch dropped."""

    def __init__(self, items: int, batch: int, name: str):
        self.items, self.size, self.name, self.epoch = items, min(batch, items), name, 0

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        order = list(range(self.items))
        random.Random(f"{self.name}/{self.epoch}").shuffle(order)
        for start in range(0, self.items - self.size + 1, self.size):
            yield self.epoch, order[start : start + self.size]


class Feed:
    """Views [B, 3, size, size] on `device`. `workers` processes decode files; None: one a core, at most 8."""

    def __init__(self, size: int, device: torch.device | str = "cpu", workers: int | None = None):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.size, self.device = size, torch.device(device)
        self.workers = min(8, cores) if workers is None else workers

    def plain(self, items: Sequence[Item]) -> Iterator[Tensor]:
        """Test views of the items, in order, at most CHUNK at a time. Raises DataError naming an unreadable image."""
        loader = self.loader(PlainViews(items, self.size), chunks(items), items)
        for pixels in loader:
            yield normalise(*self.arriving(pixels))

    def augmented(self, items: list[Item], batch: int, seed: int,
                  name: str) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
        """epoch -> batches (images, labels [batch]). The items, few-shot ones, are decoded once and kept in memory.

        Fewer items than a batch make one smaller batch. `name` keeps datasets of the same seed apart.
        Raises DataError naming an unreadable image.
        """
        with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
            images = list(pool.map(open_image, (item.source for item in items)))
        views = AugmentedViews(images, np.array([item.label for item in items]), self.size, f"{seed}/{name}")
        sampler = Batches(len(items), batch, f"{seed}/{name}")
        loader = self.loader(views, sampler, items, keep_workers=True)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            sampler.epoch = epoch
            for batch in loader:
                pixels, labels = self.arriving(*batch)
                yield normalise(pixels), labels

        return batches

    def unreadable(self, items: Sequence[Item]) -> Iterator[list[str]]:
        """What is wrong with the images that can't be opened, one list for every CHUNK items."""
        return iter(self.loader(Unreadable(items), chunks(items), items))

    def loader(self, views: Dataset, sampler, items: Sequence[Item], keep_workers: bool = False) -> DataLoader:
        small = len(items) <= CHUNK and not keep_workers
        workers = 0 if small or isinstance(items[0].source, np.ndarray) else self.workers
        # Workers are forked where that is safe, on Linux: another start would import torch in each of them.
        return DataLoader(views, batch_size=None, sampler=sampler, num_workers=workers, collate_fn=as_it_is,
                          persistent_workers=keep_workers and workers > 0,
                          multiprocessing_context="fork" if workers and sys.platform == "linux" else None)

    def arriving(self, *arrays: np.ndarray | DataError) -> list[Tensor]:
        """A batch on the device. Raises here the DataError that a worker met."""
        for array in arrays:
            if isinstance(array, DataError):
                raise array
        return [to_device(torch.from_numpy(array), self.device) for array in arrays]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; from pinned memory, so that a copy to a GPU doesn't hold up the program."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def as_it_is(batch):
    return batch


def chunks(items: Sequence[Item]) -> list[range]:
    return [range(i, min(i + CHUNK, len(items))) for i in range(0, len(items), CHUNK)]
