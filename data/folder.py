"""A user's own dataset: a folder with one sub-folder of images per class, named after the class."""
import hashlib
import os
import random
import sys
from pathlib import Path

from data.dataset import Dataset, Item, image_identity
from data.errors import DataError
from data.names import check_names, composed, name_notes
from data.readers import ENDINGS, list_class, list_folder

TEST_PARTS = ("test", "val", "dev")  # what the test part's name begins with; the first that is there
NO_CLASSES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "images", "masks", "labels"}
TEMPLATE = "a photo of a {}."
SPLIT_SEED = 1  # the same division for every run, so that all seeds are tested on the same images


def load(folder: Path) -> Dataset:
    """Classes in sorted order. Where folders called train… and test… (or val…, dev…) hold the class folders, these are
    the two parts; else half of each class's images, drawn at random, are for training. The notes say what is left out.

    Raises DataError naming what is missing or in the way: sub-folders, a class's name, or images.
    """
    train_folder, test_folder, left_out = find_parts(folder)
    divided = train_folder != test_folder
    classes, tested_classes = class_folders(train_folder), class_folders(test_folder)
    single = classes.keys() ^ tested_classes.keys()
    if single:
        raise DataError(f"{folder}: class {min(single)!r} is not in both {train_folder.name} and {test_folder.name}; "
                        "both need all classes: add it, or move it away")
    train, test = [], []
    for label, name in enumerate(classes):
        images, others = list_class(train_folder / classes[name], 1 if divided else 2)
        left_out += others
        if divided:
            tested, others = list_class(test_folder / tested_classes[name], 1)
            left_out += others
        else:
            random.Random(f"{SPLIT_SEED}/{name}").shuffle(images)
            half = len(images) // 2
            images, tested = sorted(images[:half], key=composed), sorted(images[half:], key=composed)
        train += [Item(path, label) for path in images]
        test += [Item(path, label) for path in tested]
    notes = []
    if left_out:
        notes.append(f"left out {len(left_out)} files or folders such as {left_out[0]!r}, which aren't images by their "
                     f"endings ({', '.join(ENDINGS)}) or not in a class's folder")
    notes += name_notes(list(classes))
    if twice := count_twice(train, test):
        notes.append(f"{twice} of {len(test)} test images are also training images, byte for byte, which flatters what "
                     "is learnt from these; remove them from one of the two")
    return Dataset(composed(folder.resolve().name), TEMPLATE, list(classes), train, test, notes)


def find_parts(folder: Path) -> tuple[Path, Path, list[str]]:
    """Where the class folders for training and for testing are, in the folder itself or its parts; what is left out."""
    names, others = list_folder(folder)
    trains = parts_called("train", folder, names)
    tests = []
    for start in TEST_PARTS:
        tests += parts_called(start, folder, names)
    if not trains or not tests:
        return folder, folder, others
    left_out = [name for name in names if name not in (trains[0], tests[0])]
    return folder / trains[0], folder / tests[0], others + left_out


def parts_called(start: str, folder: Path, names: list[str]) -> list[str]:
    """Those of the names that begin so, in any case, and have folders in them."""
    return [name for name in names if name.lower().startswith(start) and list_folder(folder / name)[0]]


def class_folders(folder: Path) -> dict[str, str]:
    """Return the classes in sorted order, each with what its folder is called on this disk.

    Raises DataError for fewer than two, no class, a bad name, or two alike.
    """
    names, _ = list_folder(folder)
    if len(names) < 2:
        found = f"only the sub-folder {names[0]!r}" if names else "no sub-folders"
        raise DataError(f"{folder}: {found}; a dataset of your own has one for each class, two or more: make them, or "
                        "give the folder that they are in")
    if all(name.lower().rstrip("0123456789") in NO_CLASSES for name in names):
        raise DataError(f"{folder}: {', '.join(names)} are no classes; a dataset of your own has a folder of images "
                        "for each class, or these in train and in test: sort the images so")
    check_names(names, str(folder))
    return {composed(name): name for name in names}
    return names


def count_twice(train: list[Item], test: list[Item]) -> int:
    """Return how many test images have the bytes of a training image. Read whole are those alone that have the size of
    another one and are the same in three places. Where one can't be read, which is an error later, it is 0."""
    looks = (os.path.getsize, lambda path: image_identity(path, sys.maxsize),
             lambda path: hashlib.sha256(Path(path).read_bytes()).digest())
    learnt, tested = ([item.source for item in items] for items in (train, test))
    try:
        for look in looks:
            seen, wanted = {path: look(path) for path in learnt}, {path: look(path) for path in tested}
            both = set(seen.values()) & set(wanted.values()) - {0}  # empty files are none
            learnt = [path for path in learnt if seen[path] in both]
            tested = [path for path in tested if wanted[path] in both]
    except (OSError, ValueError):
        return 0
    return len(tested)
