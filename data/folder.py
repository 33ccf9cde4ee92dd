"""A user's own dataset: a folder with one sub-folder of images per class, named after the class."""
import random
from pathlib import Path

from data.dataset import Dataset, Item
from data.errors import DataError
from data.readers import list_folder

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
SPLIT_SEED = 1  # the same division for every run, so that all seeds are tested on the same images


def load(folder: Path) -> Dataset:
    """Classes in sorted order; of each, half of the images, drawn at random, are for training.

    Raises DataError naming what is missing: sub-folders, a class's name, or images (two are needed).
    """
    classes, _ = list_folder(folder)
    if not classes:
        raise DataError(f"{folder}: no sub-folders; a dataset of your own has one for each class, with its images: "
                        "make them")
    train, test = [], []
    for label, name in enumerate(classes):
        images = list_class(folder / name)
        random.Random(f"{SPLIT_SEED}/{name}").shuffle(images)
        half = len(images) // 2
        train += [Item(path, label) for path in sorted(images[:half])]
        test += [Item(path, label) for path in sorted(images[half:])]
    return Dataset(folder.resolve().name, "test", "a photo of a {}.", classes, train, test)


def list_class(folder: Path) -> list[str]:
    """Paths of the images in a class's folder, sorted. Raises DataError for a bad name or fewer than two images."""
    words = folder.name.replace("_", " ").strip()
    if not words or not folder.name.isprintable():
        raise DataError(f"{folder}: the sub-folder's name is the class's name, and this one is empty or can't be "
                        "printed; rename it")
    _, files = list_folder(folder)
    images = [str(folder / file) for file in files if file.lower().endswith(SUFFIXES)]
    if len(images) < 2:
        found = len(images) or "no"
        raise DataError(f"{folder}: {found} images ({', '.join(SUFFIXES)}); a class needs two, one for training and "
                        "one for testing: add some")
    return images
