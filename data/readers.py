"""Three ways in which a dataset lists its images: a split file, FGVC Aircraft's lists, ImageNet's folders.

Each reader takes the file of labels and the image folder and gives (class names, items for training, items for
testing). No image is opened. All raise DataError naming the file, the entry or line, and what to do.
"""
import json
import os
from pathlib import Path

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
    """A split file: JSON with keys train, val and test, each a list of [path below `images`, label, class name].

    The val part is not used. Labels are 0 to n - 1, each with one name and an image for training.
    """
    try:
        split = json.loads(file.read_text(encoding="utf-8-sig"))
    except DAMAGE as e:
        raise DataError(unreadable(file, e, "not readable as JSON", "fetch it again")) from None
    names: dict[int, str] = {}
    items: dict[str, list[Item]] = {"train": [], "test": []}
    for part in items:
        entries = split.get(part) if isinstance(split, dict) else None
        if not isinstance(entries, list) or not entries:
            raise DataError(f"{file}: no list {part!r}, or an empty one; fetch it again")
        for number, entry in enumerate(entries):
            where = f"{file}: {part} entry {number}"
            if not isinstance(entry, list) or [type(field) for field in entry] != [str, int, str]:
                raise DataError(f"{where} is {str(entry)[:60]!r}, not [image path, label, class name]; fetch it again")
            path, label, name = entry
            items[part].append(Item(image_path(images, path, where), label))
            if not name.strip():
                raise DataError(f"{where}: class {label} has no name; fetch the file again")
            if names.setdefault(label, name) != name:
                raise DataError(f"{where}: class {label} is {names[label]!r} and {name!r}; fetch the file again")
    require_training(file, len(names), items["train"])
    return [names[label] for label in range(len(names))], items["train"], items["test"]


def require_training(file: Path, classes: int, train: list[Item]) -> None:
    """Raises DataError if a class has no image for training, which is also the case if labels aren't 0, 1, …"""
    if untrained := set(range(classes)) - {item.label for item in train}:
        raise DataError(f"{file}: class {min(untrained)} of {classes} has no training image; fetch its lists again")


def image_path(images: Path, path: str, where: str) -> str:
    """Of an image that a file names. Raises DataError if it leaves the image folder."""
    parts = path.split("/")
    if not parts[0] or ".." in parts or "\0" in path or "\\" in path:
        raise DataError(f"{where} leaves the image folder: {path[:80]!r}; fetch the file again")
    return f"{images}/{path}"


def read_lines(file: Path) -> list[str]:
    """Lines of a text file, whatever ends them; empty ones at the end are left out."""
    try:
        return file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; {GUIDE}") from None
    except DAMAGE as e:
        raise DataError(unreadable(file, e, "not text in UTF-8", "fetch it again")) from None


def read_aircraft(variants: Path, images: Path) -> Lists:
    """FGVC Aircraft: variants.txt has a class name per line, its line number is the label; beside it, two lists."""
    classes = [line.strip() for line in read_lines(variants)]
    if "" in classes:
        raise DataError(f"{variants}, line {classes.index('') + 1} has no name; fetch it again")
    label_of = {name: label for label, name in enumerate(classes)}
    train = read_aircraft_list(variants.with_name("images_variant_train.txt"), images, label_of)
    test = read_aircraft_list(variants.with_name("images_variant_test.txt"), images, label_of)
    require_training(variants, len(classes), train)
    return classes, train, test


def read_aircraft_list(file: Path, images: Path, label_of: dict[str, int]) -> list[Item]:
    """Items of a list with "image name, variant name" per line, such as "0034309 A340-300"."""
    items = []
    for number, line in enumerate(read_lines(file), 1):
        where = f"{file}, line {number}"
        image, _, variant = line.strip().partition(" ")
        if variant not in label_of:
            raise DataError(f"{where}: variant {variant!r} is not in variants.txt; fetch both again")
        items.append(Item(image_path(images, image, where) + ".jpg", label_of[variant]))
    if not items:
        raise DataError(f"{file}: no image is listed; fetch it again")
    return items


def read_imagenet(classnames: Path, images: Path) -> Lists:
    """ImageNet: in train and val a folder of images per WordNet id; the ids in sorted order are labels 0, 1, ..."""
    names = read_class_names(classnames)
    train, val = images / "train", images / "val"
    ids, _ = list_folder(train)
    if not ids:
        raise DataError(f"{train}: no folders; unpack each archive of images into a folder of its own name")
    unnamed = set(ids) - set(names)
    if unnamed:
        raise DataError(f"{train / min(unnamed)}: {classnames} has no name for it; if class folders are in it, move "
                        f"them up to {train}; if it is none, move it away; if it is one, fetch {classnames.name} again")
    unsorted = set(ids) - set(list_folder(val)[0])
    if unsorted:
        raise DataError(f"{val}: no folder {min(unsorted)}; sort the validation images into class folders, with "
                        f"valprep.sh or as {GUIDE}")
    return [names[wordnet_id] for wordnet_id in ids], list_classes(train, ids), list_classes(val, ids)


def read_class_names(file: Path) -> dict[str, str]:
    """WordNet id -> class name, of a file with lines such as "n01440764 tench"."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_lines(file), 1):
        wordnet_id, _, name = line.strip().partition(" ")
        name = name.strip()
        if not name:
            raise DataError(f"{file}, line {number}: {line[:40]!r} isn't an id and a name; fetch it again")
        if names.setdefault(wordnet_id, name) != name:
            raise DataError(f"{file}, line {number}: {wordnet_id} has two names; fetch it again")
    return names


def list_classes(folder: Path, class_folders: list[str]) -> list[Item]:
    """Every image in the class folders, which are labelled in their order."""
    items = []
    for label, name in enumerate(class_folders):
        images, _ = list_class(folder / name, 1)
        items += [Item(path, label) for path in images]
    return items


def list_class(folder: Path, least: int) -> tuple[list[str], list[str]]:
    """Paths of the images in a class's folder, sorted, and names of all else in it. Raises DataError for too few."""
    others, files = list_folder(folder)
    images = []
    for file in files:
        if file.lower().endswith(ENDINGS):
            images.append(f"{folder}/{file}")
        else:
            others.append(file)
    if len(images) < least:
        found = len(images) or "no"
        raise DataError(f"{folder}: {found} images ({', '.join(ENDINGS)}); a class needs {least} or more: add some, or "
                        "unpack the archive that they are in")
    return images, others


def files_below(folder: Path) -> list[str]:
    """Paths of all files in the folder and its sub-folders, sorted, without hidden ones and junk.

    Raises DataError naming a folder that can't be read; of links that lead in a circle, one some 40 levels down.
    """
    found, left = [], [folder]
    while left:
        here = left.pop()
        folders, files = list_folder(here)
        found += [f"{here}/{name}" for name in files]
        left += [here / name for name in folders]
    return sorted(found)


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in it, each sorted, without hidden ones, junk and pipes.

    A link is what it leads to. Raises DataError naming a folder that can't be read.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                pipe = not (entry.is_dir() or entry.is_file() or entry.is_symlink())  # or a socket, ...
                if not entry.name.startswith(".") and entry.name not in JUNK and not pipe:
                    kind = folders if entry.is_dir() else files
                    kind.append(entry.name)
    except OSError as e:
        raise DataError(f"{e.filename or folder}: not a readable folder ({e.strerror}); mend that, or move the "
                        "folder there if it lies elsewhere") from None
    return sorted(sorted(folders), key=composed), sorted(sorted(files), key=composed)
