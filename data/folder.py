"""Datasets of the user's own: a folder with one sub-folder of images per class, named after the class."""
import filecmp
import os
import random
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from data.dataset import Dataset, Item, image_identity
from data.errors import DataError
from data.names import check_names, composed, name_notes
from data.readers import ENDINGS, list_classes, list_folder

TEST_PARTS = ("test", "val", "dev")  # how the test part's name begins; the first that is there counts
NO_CLASSES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "images", "masks", "labels"}
TEMPLATE = "a photo of a {}."
SPLIT_SEED = 1  # the same division for every run, so that all seeds are tested on the same images


def load(folder: Path) -> Dataset:
    """Return the dataset, with classes in sorted order; its notes say what is left out.

    Where folders called train… and test… (or val…, dev…) hold the class folders, these are the two parts; else half of
    each class's images, drawn at random, are for training. Raises DataError naming what is missing or in the way:
    sub-folders, a class's name, or images.
    """
    train_folder, test_folder, left_out = find_parts(folder)
    classes = class_folders(train_folder)
    names = list(classes)
    if train_folder == test_folder:
        items, others = list_classes(folder, classes.values(), least=2)
        train, test = divide(items, names)
    else:
        test_classes = class_folders(test_folder)
        if single := classes.keys() ^ test_classes.keys():
            raise DataError(f"{folder}: class {min(single)!r} is not in both {train_folder.name} and "
                            f"{test_folder.name}; both need all classes: add it, or move it away")
        train, others = list_classes(train_folder, classes.values())
        test, test_others = list_classes(test_folder, [test_classes[name] for name in names])
        others += test_others
    left_out += others
    notes = []
    if left_out:
        notes.append(f"left out {len(left_out)} files or folders such as {left_out[0]!r}, which aren't images by their "
                     f"endings ({', '.join(ENDINGS)}) or not in a class's folder")
    notes += name_notes(names)
    if twice := count_twice(train, test):
        notes.append(f"{twice} of {len(test)} test images are also training images, byte for byte, which flatters what "
                     "is learnt from these; remove them from one of the two")
    return Dataset(composed(folder.resolve().name), TEMPLATE, names, train, test, notes)


def find_parts(folder: Path) -> tuple[Path, Path, list[str]]:
    """Return where the class folders for training and for testing are, and the names of what is in neither.

    They are in two parts of the folder, or both in the folder itself.
    """
    names, files = list_folder(folder)
    train, test = find_part(folder, names, ["train"]), find_part(folder, names, TEST_PARTS)
    if not train or not test:
        return folder, folder, files
    return folder / train, folder / test, files + [name for name in names if name not in (train, test)]


def find_part(folder: Path, names: list[str], beginnings: Sequence[str]) -> str | None:
    """Return the first of the names, in any case, that begins so and has folders in it; None if none does."""
    for beginning in beginnings:
        for name in names:
            if name.lower().startswith(beginning) and list_folder(folder / name)[0]:
                return name
    return None


def divide(items: list[Item], names: list[str]) -> tuple[list[Item], list[Item]]:
    """Draw half of each class's images for training; the rest is for testing."""
    train, test = [], []
    for label, group in groupby(items, key=lambda item: item.label):
        paths = [item.source for item in group]
        random.Random(f"{SPLIT_SEED}/{names[label]}").shuffle(paths)
        half = len(paths) // 2
        train += [Item(path, label) for path in sorted(paths[:half], key=composed)]
        test += [Item(path, label) for path in sorted(paths[half:], key=composed)]
    return train, test


def class_folders(folder: Path) -> dict[str, str]:
    """Return the classes in sorted order, each with its folder's name as this disk writes it.

    Raises DataError for fewer than two, no class, a bad name, or two alike.
    """
    names, _ = list_folder(folder)
    if len(names) < 2:
        too_few = f"only the sub-folder {names[0]!r}" if names else "no sub-folders"
        raise DataError(f"{folder}: {too_few}; a dataset of your own has one for each class, two or more: make them, "
                        "or give the folder that they are in")
    if all(name.lower().rstrip("0123456789") in NO_CLASSES for name in names):
        raise DataError(f"{folder}: {', '.join(names)} are no classes; a dataset of your own has a folder of images "
                        "for each class, or these in train and in test: sort the images so")
    check_names(names, str(folder))
    return {composed(name): name for name in names}


def count_twice(train: list[Item], test: list[Item]) -> int:
    """Return how many test images have the bytes of a training image; 0 if one can't be read, which is an error later.

    Only files of the same size, and the same in three places, are compared.
    """
    alike: dict[bytes, list[str]] = {}
    twice = 0
    try:
        for path, _ in train:
            alike.setdefault(image_identity(path, len(path)), []).append(path)
        for path, _ in test:
            candidates = alike.get(image_identity(path, len(path)), [])
            same = any(filecmp.cmp(path, candidate, shallow=False) for candidate in candidates)
            twice += same and os.path.getsize(path) > 0
    except (OSError, DataError):
        return 0
    return twice
