"""The paper's eleven datasets, in the folder layout that CoOp's project introduced (its DATASETS.md).

One row a dataset; nine share a split file: JSON with keys train, val and test, each a list of
[image path, label, class name]. No image is opened here. Adding a dataset with a split file is one row.
"""
import json
import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data.dataset import DataError, Dataset, Item
from data.listing import list_files
from mp.runtime.errors import DAMAGE, unreadable

GUIDE = "CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp) describes every folder"
ANY_COPY = "with the same file names (its own site is often down; `run.py data` checks the copy)"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"


class Row(NamedTuple):
    role: str        # "train" or "test" in the paper's Table 1
    folder: str      # below --data
    images: str      # below that
    labels: str      # split file; for two datasets, the list of class names
    template: str    # zero-shot prompt
    drive_id: str    # of the split file on Google Drive
    counts: tuple[int, int, int]  # classes, images for training and testing of the published benchmark
    source: str      # of the images
    size: str        # of that download


TABLE = {  # in the order of the paper's Table 2
    "Caltech101": Row("train", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", "a photo of a {}.",
                      "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", (100, 4128, 2465),
                      "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip", "0.14 GB"),
    "EuroSAT": Row("train", "eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {}.",
                   "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", (10, 13500, 8100),
                   "http://madm.dfki.de/files/sentinel/EuroSAT.zip", "0.09 GB"),
    "FGVC Aircraft": Row("train", "fgvc_aircraft", "images", "variants.txt", "a photo of a {}, a type of aircraft.", "",
                         (100, 3334, 3333), f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", "2.8 GB"),
    "Flowers102": Row("train", "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json",
                      "a photo of a {}, a type of flower.", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", (102, 4093, 2463),
                      f"{OXFORD}/flowers/102/102flowers.tgz", "0.35 GB"),
    "OxfordPets": Row("train", "oxford_pets", "images", "split_zhou_OxfordPets.json", "a photo of a {}, a type of pet.",
                      "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", (37, 2944, 3669), f"{OXFORD}/pets/data/images.tar.gz",
                      "0.8 GB"),
    "UCF101": Row("train", "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "a photo of a person doing {}.",
                  "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", (101, 7639, 3783),
                  "Google Drive id 10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O", "0.2 GB"),
    "DTD": Row("test", "dtd", "images", "split_zhou_DescribableTextures.json", "{} texture.",
               "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", (47, 2820, 1692), f"{OXFORD}/dtd/download/dtd-r1.0.1.tar.gz",
               "0.6 GB"),
    "Food101": Row("test", "food-101", "images", "split_zhou_Food101.json", "a photo of {}, a type of food.",
                   "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl", (101, 50500, 30300),
                   "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "5 GB"),
    "ImageNet": Row("test", "imagenet", "images", "classnames.txt", "a photo of a {}.",
                    "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", (1000, 1281167, 50000),
                    "https://image-net.org (ILSVRC 2012; images in a folder per class)", "150 GB"),
    "Stanford Cars": Row("test", "stanford_cars", "", "split_zhou_StanfordCars.json", "a photo of a {}.",
                         "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", (196, 6509, 8041),
                         f"any copy of cars_train.tgz and cars_test.tgz {ANY_COPY}", "2 GB"),
    "SUN397": Row("test", "sun397", "SUN397", "split_zhou_SUN397.json", "a photo of a {}.",
                  "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq", (397, 15880, 19850),
                  f"any copy of SUN397.tar.gz {ANY_COPY}", "39 GB"),
}
NAMES = list(TABLE)
TRAINING = [name for name, row in TABLE.items() if row.role == "train"]


def load(name: str, root: Path) -> Dataset:
    """One dataset below `root`; it needs only its own folder.

    Raises DataError naming what is missing and where to get it, or the file and entry that is wrong.
    """
    if name not in TABLE:
        raise DataError(f"no dataset {name!r}; there are {', '.join(TABLE)}")
    row = TABLE[name]
    folder = root / row.folder
    for path, what in ((folder, "folder"), (folder / row.images, "image folder"), (folder / row.labels, "file")):
        try:
            os.stat(path)
        except OSError as e:
            by_drive = what == "file" and row.drive_id
            where = f"Google Drive id {row.drive_id}" if by_drive else f"{row.source}, {row.size}"
            why = "" if isinstance(e, FileNotFoundError) else f" ({e.strerror})"
            raise DataError(f"{name}: no {what} {path}{why}; get it from {where}; {GUIDE}") from None
    if name == "ImageNet":
        classes, train, test = read_imagenet(folder / row.labels, folder / row.images)
    elif name == "FGVC Aircraft":
        classes, train, test = read_aircraft(folder, folder / row.images)
    else:
        classes, train, test = read_split(folder / row.labels, folder / row.images)
    return Dataset(name, row.role, row.template, classes, train, test)


Parts = tuple[list[str], list[Item], list[Item]]  # class names, train, test


def read_split(file: Path, images: Path) -> Parts:
    """Class names, train and test items of a split file. Its val part is not used."""
    try:
        split = json.loads(file.read_text(encoding="utf-8-sig"))
    except DAMAGE as e:
        raise DataError(unreadable(file, e, "not readable as JSON", "fetch it again")) from None
    names: dict[int, str] = {}
    parts = []
    for part in ("train", "test"):
        entries = split.get(part) if isinstance(split, dict) else None
        if not isinstance(entries, list) or not entries:
            raise DataError(f"{file}: no list {part!r}, or an empty one; fetch it again")
        items = []
        for number, entry in enumerate(entries):
            where = f"{file}: {part} entry {number}"
            if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)
                    and type(entry[1]) is int and isinstance(entry[2], str)):
                raise DataError(f"{where} is {str(entry)[:60]!r}, not [image path, label, class name]; fetch it again")
            path, label, name = entry
            inner = PurePosixPath(path)
            if inner.is_absolute() or ".." in inner.parts or not path or "\0" in path or "\\" in path:
                raise DataError(f"{where} leaves the image folder: {path[:80]!r}; fetch the file again")
            if not name.strip():
                raise DataError(f"{where}: class {label} has no name; fetch the file again")
            if part == "test" and label not in names:
                raise DataError(f"{where}: class {label} ({name}) has no training image; fetch the file again")
            if names.setdefault(label, name) != name:
                raise DataError(f"{where}: class {label} is {names[label]!r} and {name!r}; fetch the file again")
            items.append(Item(f"{images}/{path}", label))
        parts.append(items)
    if sorted(names) != list(range(len(names))):
        gap = next(i for i in range(len(names)) if i not in names)
        raise DataError(f"{file}: class {gap} has no training image; fetch the file again")
    return [names[i] for i in range(len(names))], *parts


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


def read_aircraft(folder: Path, images: Path) -> Parts:
    """FGVC Aircraft: a label is a line number of variants.txt; lists hold "image name, variant name" per line."""
    classes = [line.strip() for line in read_lines(folder / "variants.txt")]
    if "" in classes:
        raise DataError(f"{folder / 'variants.txt'}, line {classes.index('') + 1} has no name; fetch it again")
    label_of = {name: i for i, name in enumerate(classes)}
    parts = []
    for part in ("train", "test"):
        file = folder / f"images_variant_{part}.txt"
        items = []
        for number, line in enumerate(read_lines(file), 1):
            image, _, variant = line.strip().partition(" ")
            if variant not in label_of:
                raise DataError(f"{file}, line {number}: variant {variant!r} is not in variants.txt; fetch both again")
            if {"/", "\\", "\0"} & {*image}:
                raise DataError(f"{file}, line {number} leaves the image folder: {image!r}; fetch it again")
            items.append(Item(f"{images}/{image}.jpg", label_of[variant]))
        parts.append(items)
    if missing := set(range(len(classes))) - {item.label for item in parts[0]}:
        raise DataError(f"{folder}: no training image of {classes[min(missing)]!r}; fetch its lists again")
    return classes, *parts


def read_imagenet(file: Path, images: Path) -> Parts:
    """ImageNet: a folder per WordNet id, labelled in sorted order; classnames.txt has "id name" per line."""
    named = {}
    for number, line in enumerate(read_lines(file), 1):
        wnid, _, name = line.strip().partition(" ")
        if not name.strip():
            raise DataError(f"{file}, line {number}: {line[:40]!r} isn't an id and a name; fetch it again")
        if named.setdefault(wnid, name.strip()) != name.strip():
            raise DataError(f"{file}, line {number}: {wnid} has two names; fetch it again")
    wnids, _ = list_files([images / "train"])[0]
    if unnamed := set(wnids) - named.keys():
        raise DataError(f"{images / 'train' / min(unnamed)}: {file} has no name for it; fetch that file again")
    parts = []
    for part in ("train", "val"):
        folders = [images / part / wnid for wnid in wnids]
        items = []
        for label, (folder, (_, found)) in enumerate(zip(folders, list_files(folders))):
            if not found:
                raise DataError(f"{folder}: no images; unpack it again")
            items += [Item(f"{folder}/{name}", label) for name in found]
        parts.append(items)
    return [named[w] for w in wnids], *parts
