"""The paper's eleven datasets, in the folder layout that CoOp's project introduced (its DATASETS.md).

Adding a dataset with a split file is one row of TABLE. One that lists its images in another way needs a reader, too.
"""
import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data.dataset import Dataset
from data.errors import DataError
from data.names import alike, check_names, name_notes
from data.readers import GUIDE, Lists, read_aircraft, read_imagenet, read_split

ANY_COPY = "with the same file names (its own site is often down; `run.py data` checks the copy)"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"


class Row(NamedTuple):
    role: str        # "train" or "test" in the paper's Table 1
    folder: str      # below --data
    images: str      # below that
    labels: str      # split file; for two datasets, the list of class names
    template: str    # zero-shot prompt
    drive_id: str    # of the split file on Google Drive; "": it comes with the images
    counts: tuple[int, int, int]  # classes, images for training and testing of the published benchmark
    source: str      # of the images
    size: str        # of that download
    read: Callable[[Path, Path], Lists] = read_split  # labels, images -> class names, items for training, for testing


TABLE = {  # in the order of the paper's Table 2
    "Caltech101": Row("train", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", "a photo of a {}.",
                      "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", (100, 4128, 2465),
                      "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip", "0.14 GB"),
    "EuroSAT": Row("train", "eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {}.",
                   "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", (10, 13500, 8100),
                   "http://madm.dfki.de/files/sentinel/EuroSAT.zip", "0.09 GB"),
    "FGVC Aircraft": Row("train", "fgvc_aircraft", "images", "variants.txt", "a photo of a {}, a type of aircraft.", "",
                         (100, 3334, 3333), f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", "2.8 GB",
                         read_aircraft),
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
                    "https://image-net.org (ILSVRC 2012; images in a folder per class)", "150 GB", read_imagenet),
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
    """Return one dataset below `root`; it needs only its own folder. No image is opened.

    A note tells of counts that aren't the published benchmark's. Raises DataError naming what is missing and where to
    get it, or the file and entry that is wrong.
    """
    if name not in TABLE:
        raise DataError(f"no dataset {name!r}; there are {', '.join(TABLE)}")
    row = TABLE[name]
    folder = root / row.folder
    images, labels = folder / row.images, folder / row.labels
    download = f"{row.source}, {row.size}"
    require(f"{name}: no folder", folder, [name, row.folder], root, download)
    drive = f"Google Drive id {row.drive_id}" if row.drive_id else download
    require(f"{name}: no file", labels, [row.labels], root, drive)
    classes, train, test = row.read(labels, images)
    if untrained := set(range(len(classes))) - {item.label for item in train}:  # also if labels aren't 0, 1, …
        raise DataError(f"{labels}: class {min(untrained)} of {len(classes)} has no training image; fetch its lists "
                        "again")
    for item in (test[0], train[0]):
        path = item.source.removeprefix(f"{images}/")
        if not os.path.exists(item.source) and (place := elsewhere([path], folder)):
            raise DataError(f"{name}: no image {item.source}; it lies at {place}: move all images to where the first "
                            "one is missed")
    require(f"{name}: no image folder", images, [], folder, download)
    notes = []
    counts = len(classes), len(train), len(test)
    if counts != row.counts:
        shares = [f"{count:,} of {published:,}" for count, published in zip(counts, row.counts)]
        notes.append("not the published benchmark: {} classes, {} training and {} test images".format(*shares))
        if row.read is not read_imagenet:  # whose published names read alike, also those of a part
            check_names(classes, str(labels))
    for pair in alike(classes):
        notes.append("classes {!r} and {!r} read alike, so CLIP can't tell them apart".format(*pair))
    return Dataset(name, row.template, classes, train, test, notes + name_notes(classes))


def names_of(name: str) -> list[str]:
    """Return what a dataset is called: the paper's name, its folder's, and CoOp's, which the split file's holds."""
    row = TABLE[name]
    return [name, row.folder, row.labels.removeprefix("split_zhou_").removesuffix(".json")]


def require(what: str, path: Path, names: list[str], below: Path, source: str) -> None:
    """Raise DataError unless the path is there, saying where one of the names lies instead, or where to get it."""
    try:
        os.stat(path)
    except OSError as e:
        why = "" if isinstance(e, FileNotFoundError) else f" ({e.strerror})"
        place = elsewhere(names, below)
        advice = f"it may be {place}: move that there" if place else f"get it from {source}"
        raise DataError(f"{what} {path}{why}; {advice}; {GUIDE}") from None


def elsewhere(names: list[str], below: Path) -> str | None:
    """Return the path of what has one of the names in the folder, or at most three further down; or None."""
    for depth in range(4):
        for name in names:
            for match in sorted(glob.glob("*/" * depth + glob.escape(name), root_dir=below)):
                if os.path.exists(below / match):
                    return str(below / match)
    return None
