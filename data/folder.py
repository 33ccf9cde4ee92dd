"""A user's own dataset: a folder with one sub-folder of images per class, named after the class."""
import random
from pathlib import Path

from data.dataset import DataError, Dataset, Item
from data.listing import list_files

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
SPLIT_SEED = 1  # the same division for every run, so that all seeds are tested on the same images


def load(folder: Path) -> Dataset:
    """Classes in sorted order; of each, half of the images, drawn at random, are for training.

    Raises DataError naming what is missing: sub-folders, a class's name, or images (two are needed).
    """
    folders, _ = list_files([folder])[0]
    if not folders:
        raise DataError(f"{folder}: no sub-folders; a dataset of your own has one for each class, with its images: make them")
    train, test = [], []
    for label, (name, (_, found)) in enumerate(zip(folders, list_files([folder / name for name in folders]))):
        images = [str(folder / name / file) for file in found if file.lower().endswith(SUFFIXES)]
        if not name.replace("_", " ").strip() or not name.isprintable():
            raise DataError(f"{folder / name}: the sub-folder's name is the class's name, and this one is empty or can't be "
                            "printed; rename it")
        if len(images) < 2:
            raise DataError(f"{folder / name}: {len(images) or 'no'} images ({', '.join(SUFFIXES)}); a class needs "
                            "two, one for training and one for testing: add some")
        random.Random(f"{SPLIT_SEED}/{name}").shuffle(images)
        half = len(images) // 2
        train += [Item(path, label) for path in sorted(images[:half])]
        test += [Item(path, label) for path in sorted(images[half:])]
    return Dataset(folder.resolve().name, "test", "a photo of a {}.", folders, train, test)
