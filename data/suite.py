"""The two suites, the embedded miniature and the paper's eleven datasets in a folder; and the user's own datasets."""
import os
from collections.abc import Callable, Container, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from data import folder, paper
from data.dataset import Dataset
from data.errors import DataError, printable
from data.miniature import suite as mini
from data.miniature.captions import DOMAIN_CAPTIONS
from data.names import composed

AVERAGES = ("Average", "Average (train)", "Average (test)")  # rows of every table; no folder may be called so


class Suite(NamedTuple):
    name: str                       # "mini" or "paper"
    training: list[str]             # the datasets that are meta-training's tasks
    datasets: list[str]             # those to evaluate on: in Table 2's order, then the user's own
    load: Callable[[str], Dataset]
    weights: Path | None            # None: OpenAI's, or the user's
    meta_epochs: int | None         # None: the paper's
    other_tasks: Sequence[str] = ()  # `training`, if it isn't Table 1's

    def template(self, name: str) -> str:
        """Return the handcrafted prompt of a dataset, without loading it."""
        if self.name == "paper" and name in paper.TABLE:
            return paper.TABLE[name].template
        if self.name == "mini" and name in mini.TABLE:
            return DOMAIN_CAPTIONS[name][0]
        return folder.TEMPLATE

    @property
    def roles(self) -> dict[str, str]:
        """Return for each dataset to evaluate on "train", if it is one of the tasks, else "test"."""
        return {name: "train" if name in self.training else "test" for name in self.datasets}


def open_suite(root: Path | None, names: list[str] | None = None, tasks: list[str] | None = None) -> Suite:
    """Return the paper's suite in `root`, or without one the miniature.

    It is evaluated on `names` alone; without them on all of the suite, and on the user's own datasets among the tasks.
    It is meta-trained on `tasks`; without them on Table 1's. A name is one of the suite's, or a folder with one
    sub-folder per class. Raises DataError for a folder or dataset that isn't there.
    """
    folders: dict[str, Path] = {}  # the user's own datasets, by the folder's name

    @cache
    def load(name: str) -> Dataset:
        if name in folders:
            return folder.load(folders[name])
        return mini.load(name) if root is None else paper.load(name, root)

    if root is None:
        suite = Suite("mini", mini.TRAINING, list(mini.TABLE), load, mini.WEIGHTS, mini.META_EPOCHS)
    elif os.path.isdir(root):
        suite = Suite("paper", paper.TRAINING, paper.NAMES, load, None, None)
    else:
        raise DataError(f"{root}: no such folder; --data (or MP_DATA) names the one that holds the datasets")
    training, datasets = suite.training, suite.datasets
    if tasks is not None:
        training = resolve(suite, tasks, root, folders)
        training.sort(key=lambda name: name if name in folders else "")  # random draws count the tasks in this order
        datasets = datasets + [name for name in training if name in folders]
    if names is not None:
        datasets = resolve(suite, names, root, folders)
    other_tasks = [] if training == suite.training else training
    return suite._replace(training=training, datasets=datasets, other_tasks=other_tasks)


def resolve(suite: Suite, names: list[str], root: Path | None, folders: dict[str, Path]) -> list[str]:
    """Return the datasets that are meant: the suite's in its order, then the user's own, which are added to `folders`.

    Raises DataError for a name that means nothing, or two things.
    """
    papers: dict[str, str] = {}  # the paper's datasets, by all that they are called
    for dataset in paper.NAMES:
        papers |= {key(word): dataset for word in paper.names_of(dataset)}
    by_key = papers if suite.name == "paper" else {key(name): name for name in suite.datasets}
    chosen: dict[str, None] = {}  # a set that keeps the order
    for name in names:
        if dataset := by_key.get(key(name)):
            if os.path.isdir(name) and not (root and same_folder(root / paper.TABLE[dataset].folder, name)):
                raise DataError(f"{name}: a dataset of the suite, and a folder here; rename the folder if that is "
                                "meant, else give the command where there is no such folder")
            chosen[dataset] = None
        elif key(name) in papers:
            raise DataError(f"{name}: {papers[key(name)]} is of the paper's suite; give --data DIR, the folder that "
                            "holds its datasets; for a folder of your own of this name, give its whole path")
        elif os.path.isdir(name):
            chosen[add_folder(folders, Path(name), by_key)] = None
        else:
            raise DataError(f"no dataset {name!r} in the {suite.name} suite, and no folder of that name; the suite has "
                            f"{', '.join(suite.datasets)}")
    suite_datasets = [name for name in suite.datasets if name in chosen]
    user_datasets = [name for name in chosen if name in folders]
    return suite_datasets + user_datasets


def same_folder(path: Path, other: str) -> bool:
    return path.exists() and path.samefile(other)


def add_folder(folders: dict[str, Path], path: Path, suite_keys: Container[str]) -> str:
    """Add a dataset of the user's own, and return its name, which is the folder's.

    Raises DataError unless its results can be kept by that name.
    """
    name = composed(path.resolve().name)
    if not name or printable(name) != name or name in AVERAGES or key(name) in suite_keys:
        raise DataError(f"{path}: results are kept by the folder's name, and this one is a dataset's of the suite, a "
                        "table's, or can't be printed; rename it, or give the name alone if the suite's dataset is "
                        "meant")
    for other, other_path in folders.items():
        if key(other) == key(name) and other_path.resolve() != path.resolve():
            raise DataError(f"{path}: another folder of that name is given, too; results are kept by name, rename one")
    folders[name] = path
    return name


def key(name: str) -> str:
    """Return the name without case, spaces, hyphens and underscores: it is compared so, as that is easy to type."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")
