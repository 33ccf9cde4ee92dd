"""Three ways in which a dataset lists its images: a split file, FGVC Aircraft's lists, ImageNet's folders.

Each reader takes the file of labels and the image folder and gives (class names, items for training, items for
testing). No image is opened. All raise DataError naming the file, the entry or line, and what to do.
"""
import json
from pathlib import Path, PurePosixPath

from data.dataset import Item
from data.errors import DAMAGE, DataError, unreadable
from data.listing import list_folder

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
            check_entry(entry, where)
            path, label, name = entry
            if part == "test" and label not in names:
                raise DataError(f"{where}: class {label} ({name}) has no training image; fetch the file again")
            known = names.setdefault(label, name)
            if known != name:
                raise DataError(f"{where}: class {label} is {known!r} and {name!r}; fetch the file again")
            items[part].append(Item(f"{images}/{path}", label))
    for label in range(len(names)):
        if label not in names:
            raise DataError(f"{file}: class {label} has no training image; fetch the file again")
    return [names[label] for label in range(len(names))], items["train"], items["test"]


def check_entry(entry, where: str) -> None:
    """Raises DataError unless it is [image path, label, class name] with a path below the folder, and a name."""
    if not isinstance(entry, list) or [type(field) for field in entry] != [str, int, str]:
        raise DataError(f"{where} is {str(entry)[:60]!r}, not [image path, label, class name]; fetch it again")
    path, label, name = entry
    posix = PurePosixPath(path)
    plain = path and "\0" not in path and "\\" not in path
    if not plain or posix.is_absolute() or ".." in posix.parts:
        raise DataError(f"{where} leaves the image folder: {path[:80]!r}; fetch the file again")
    if not name.strip():
        raise DataError(f"{where}: class {label} has no name; fetch the file again")


def read_lines(file: Path) -> list[str]:
    """Lines of a text file, whatever ends them; empty ones at the end are left out."""
    try:
        return file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; {GUIDE}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: not text in UTF-8; fetch it again") from None
    except DAMAGE as e:
        raise DataError(unreadable(file, e, "not readable", "fetch it again")) from None


def read_aircraft(variants: Path, images: Path) -> Lists:
    """FGVC Aircraft: variants.txt has a class name per line, its line number is the label; beside it, two lists."""
    classes = [line.strip() for line in read_lines(variants)]
    if "" in classes:
        raise DataError(f"{variants}, line {classes.index('') + 1} has no name; fetch it again")
    label_of = {name: label for label, name in enumerate(classes)}
    train = read_aircraft_list(variants.with_name("images_variant_train.txt"), images, label_of)
    test = read_aircraft_list(variants.with_name("images_variant_test.txt"), images, label_of)
    seen = {item.label for item in train}
    for label, name in enumerate(classes):
        if label not in seen:
            raise DataError(f"{variants.parent}: no training image of {name!r}; fetch its lists again")
    return classes, train, test


def read_aircraft_list(file: Path, images: Path, label_of: dict[str, int]) -> list[Item]:
    """Items of a list with "image name, variant name" per line, such as "0034309 A340-300"."""
    items = []
    for number, line in enumerate(read_lines(file), 1):
        image, _, variant = line.strip().partition(" ")
        if variant not in label_of:
            raise DataError(f"{file}, line {number}: variant {variant!r} is not in variants.txt; fetch both again")
        if any(mark in image for mark in "/\\\0"):
            raise DataError(f"{file}, line {number} leaves the image folder: {image!r}; fetch it again")
        items.append(Item(f"{images}/{image}.jpg", label_of[variant]))
    return items


def read_imagenet(classnames: Path, images: Path) -> Lists:
    """ImageNet: in train and val a folder of images per WordNet id; the ids in sorted order are labels 0, 1, ..."""
    names = read_class_names(classnames)
    ids, _ = list_folder(images / "train")
    if not ids:
        raise DataError(f"{images / 'train'}: no folders; unpack it again")
    for wordnet_id in ids:
        if wordnet_id not in names:
            raise DataError(f"{images / 'train' / wordnet_id}: {classnames} has no name for it; fetch that file again")
    classes = [names[wordnet_id] for wordnet_id in ids]
    return classes, list_classes(images / "train", ids), list_classes(images / "val", ids)


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
    """Every file in the class folders, which are labelled in their order."""
    items = []
    for label, name in enumerate(class_folders):
        _, files = list_folder(folder / name)
        if not files:
            raise DataError(f"{folder / name}: no images; unpack it again")
        items += [Item(f"{folder}/{name}/{file}", label) for file in files]
    return items
