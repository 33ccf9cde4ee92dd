"""Three ways in which a dataset lists its images: a split file, FGVC Aircraft's lists, ImageNet's folders.

Each reader takes the file of labels and the image folder and returns class names, items for training and items for
testing. No image is opened. All raise DataError naming the file, the entry or line, and what to do.
"""
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from data.dataset import Item
from data.errors import DAMAGE, DataError, unreadable
from data.images import FORMATS
from data.names import composed

# In class folders, an image is a file with one of these endings, in either case: those of the formats that are opened.
ENDINGS = tuple(sorted(end for end, kind in Image.registered_extensions().items() if kind in FORMATS))
JUNK = ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")  # folders that systems leave
GUIDE = "CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp) describes every folder"
Lists = tuple[list[str], list[Item], list[Item]]


def read_split(file: Path, images: Path) -> Lists:
    """Read a split file: JSON with keys train, val and test, each a list of [path below `images`, label, class name].

    The val part is not used. Labels are 0 to n - 1, each with one name.
    """
    split = parsed(file, json.loads, "not readable as JSON")
    names: dict[int, str] = {}
    items: dict[str, list[Item]] = {"train": [], "test": []}
    for part in items:
        entries = split.get(part) if isinstance(split, dict) else None
        if not isinstance(entries, list) or not entries:
            raise DataError(f"{file}: no list {part!r}, or an empty one; fetch it again")
        for number, entry in enumerate(entries):
            where = f"{file}: {part} entry {number}"
            if not is_entry(entry):
                raise DataError(f"{where} is {str(entry)[:60]!r}, not [image path, label, class name]; fetch it again")
            path, label, name = entry
            items[part].append(Item(image_path(images, path, where), label))
            if names.setdefault(label, name) != name:
                raise DataError(f"{where}: class {label} is {names[label]!r} and {name!r}; fetch the file again")
    return [names[label] for label in sorted(names)], items["train"], items["test"]


def is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and [type(field) for field in entry] == [str, int, str] and entry[2].strip() != ""


def image_path(images: Path, path: str, where: str) -> str:
    """Return the path of an image that a file names. Raises DataError if it leaves the image folder."""
    parts = path.split("/")
    if not parts[0] or ".." in parts or "\0" in path or "\\" in path:
        raise DataError(f"{where} leaves the image folder: {path[:80]!r}; fetch the file again")
    return f"{images}/{path}"


def parsed(file: Path, parse: Callable[[str], Any], failure: str) -> Any:
    """Return what `parse` makes of a text file. Raises DataError, with `failure` if it can make nothing of it."""
    try:
        return parse(file.read_text(encoding="utf-8-sig"))
    except DAMAGE as e:
        raise DataError(unreadable(file, e, failure, "fetch it again")) from None


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file without the spaces around them, and without empty ones at the end."""
    text = parsed(file, str, "not readable as text")
    return [line.strip() for line in text.rstrip().splitlines()]


def read_pairs(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield for each line where it is, its first word, and the rest."""
    for number, line in enumerate(read_lines(file), 1):
        word, _, rest = line.partition(" ")
        yield f"{file}, line {number}", word, rest.strip()


def read_aircraft(variants: Path, images: Path) -> Lists:
    """Read FGVC Aircraft: variants.txt has a class name a line, whose number is the label; beside it are two lists."""
    classes = read_lines(variants)
    if "" in classes:
        raise DataError(f"{variants}, line {classes.index('') + 1} has no name; fetch it again")
    train = read_aircraft_list(variants.with_name("images_variant_train.txt"), images, classes)
    test = read_aircraft_list(variants.with_name("images_variant_test.txt"), images, classes)
    return classes, train, test


def read_aircraft_list(file: Path, images: Path, classes: list[str]) -> list[Item]:
    """Return the items of a list with "image name, variant name" per line, such as "0034309 A340-300"."""
    label_of = {name: label for label, name in enumerate(classes)}
    items = []
    for where, image, variant in read_pairs(file):
        if variant not in label_of:
            raise DataError(f"{where}: variant {variant!r} is not in variants.txt; fetch both again")
        items.append(Item(image_path(images, image, where) + ".jpg", label_of[variant]))
    if not items:
        raise DataError(f"{file}: no image is listed; fetch it again")
    return items


def read_imagenet(classnames: Path, images: Path) -> Lists:
    """Read ImageNet: in train and val a folder of images per WordNet id; the sorted ids are labels 0, 1, …"""
    names = read_class_names(classnames)
    train, val = images / "train", images / "val"
    ids, _ = list_folder(train)
    if not ids:
        raise DataError(f"{train}: no folders; unpack each archive of images into a folder of its own name")
    if unnamed := set(ids) - set(names):
        raise DataError(f"{train / min(unnamed)}: {classnames} has no name for it; if class folders are in it, move "
                        f"them up to {train}; if it is none, move it away; if it is one, fetch {classnames.name} again")
    if unsorted := set(ids) - set(list_folder(val)[0]):
        raise DataError(f"{val}: no folder {min(unsorted)}; sort the validation images into class folders, with "
                        f"valprep.sh or as {GUIDE}")
    return [names[wordnet_id] for wordnet_id in ids], list_classes(train, ids)[0], list_classes(val, ids)[0]


def read_class_names(file: Path) -> dict[str, str]:
    """Return the class name of each WordNet id, from a file with lines such as "n01440764 tench"."""
    names: dict[str, str] = {}
    for where, wordnet_id, name in read_pairs(file):
        if not name:
            raise DataError(f"{where}: {wordnet_id[:40]!r} isn't an id and a name; fetch it again")
        if names.setdefault(wordnet_id, name) != name:
            raise DataError(f"{where}: {wordnet_id} has two names; fetch it again")
    return names


def list_classes(folder: Path, class_folders: Iterable[str], least: int = 1) -> tuple[list[Item], list[str]]:
    """Return every image in the class folders, which are labelled in their order, and the names of all else in them.

    Raises DataError for a class of fewer than `least` images.
    """
    items, others = [], []
    for label, name in enumerate(class_folders):
        before = len(items)
        folders, files = list_folder(folder / name)
        others += folders
        for file in files:
            if file.lower().endswith(ENDINGS):
                items.append(Item(f"{folder}/{name}/{file}", label))
            else:
                others.append(file)
        count = len(items) - before
        if count < least:
            raise DataError(f"{folder / name}: {count or 'no'} images ({', '.join(ENDINGS)}); a class needs {least} or "
                            "more: add some, or unpack the archive that they are in")
    return items, others


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files in the folder and its sub-folders, sorted, without hidden ones and junk.

    Raises DataError naming a folder that can't be read; of links that lead in a circle, one some 40 levels down.
    """
    folders, files = list_folder(folder)
    paths = [f"{folder}/{name}" for name in files]
    for name in folders:
        paths += files_below(folder / name)
    return sorted(paths)


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the files in it, each sorted, without hidden ones, junk and pipes.

    A link is what it leads to. Raises DataError naming a folder that can't be read.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in JUNK:
                    continue
                if is_folder(entry):
                    folders.append(entry.name)
                elif entry.is_symlink() or entry.is_file():  # else it is a pipe, a socket, …
                    files.append(entry.name)
    except OSError as e:
        raise DataError(f"{e.filename or folder}: not a readable folder ({e.strerror}); mend that, or move the "
                        "folder there if it lies elsewhere") from None
    return sorted(sorted(folders), key=composed), sorted(sorted(files), key=composed)


def is_folder(entry: os.DirEntry) -> bool:
    """Return whether it is one, or a link to one. A link to itself is none, as one that leads nowhere."""
    try:
        return entry.is_dir()
    except OSError as e:
        if e.errno != errno.ELOOP or os.path.isdir(os.path.realpath(entry.path)):  # of folders that lead in a circle
            raise
        return False
