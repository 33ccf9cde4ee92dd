"""The two suites: the embedded miniature, and the paper's eleven datasets in a folder; and datasets of one's own."""
import os
from collections.abc import Callable, Container, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from data import folder as own
from data import paper
from data.dataset import Dataset
from data.errors import DataError, printable
from data.miniature import suite as mini
from data.miniature.captions import DOMAIN_CAPTIONS
from data.names import composed

AVERAGES = ("Average", "Average (train)", "Average (test)")  # rows of every table; no dataset may be called so
LONGEST_NAME = 200  # bytes; the names of result files have more in them, and 255 are the most


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
        return own.TEMPLATE

    @property
    def roles(self) -> dict[str, str]:
        """Of each dataset to evaluate on: train, if it is one of the tasks, else test."""
        return {name: "train" if name in self.training else "test" for name in self.datasets}


def open_suite(root: Path | None, names: list[str] | None = None, tasks: list[str] | None = None) -> Suite:
    """The paper's suite in `root`, or without one the miniature; evaluating on `names` and meta-training on `tasks`
    only, if given.

    A name is one of the suite's, or a folder with one sub-folder per class.
    Raises DataError for a folder or dataset that isn't there.
    """
    if root is None:
        suite = Suite("mini", mini.TRAINING, list(mini.TABLE), mini.load, mini.WEIGHTS, mini.META_EPOCHS)
    elif os.path.isdir(root):
        load = cache(partial(paper.load, root=root))
        suite = Suite("paper", paper.TRAINING, paper.NAMES, load, None, None)
    else:
        raise DataError(f"{root}: no such folder; --data (or MP_DATA) names the one that holds the datasets")
    return suite if names is None and tasks is None else choose(suite, names, tasks, root)


def choose(suite: Suite, names: list[str] | None, tasks: list[str] | None, root: Path | None) -> Suite:
    """The suite, evaluating on `names` alone; without them, on all of the suite and the user's own among the tasks."""
    folders: dict[str, Path] = {}  # the user's own datasets, by the folder's name
    training, datasets = suite.training, suite.datasets
    if tasks is not None:
        training = resolve(suite, tasks, root, folders)
        training.sort(key=lambda name: name if name in folders else "")  # random draws count the tasks in this order
        datasets = datasets + [name for name in training if name in folders]
    if names is not None:
        datasets = resolve(suite, names, root, folders)

    @cache
    def load(name: str) -> Dataset:
        return own.load(folders[name]) if name in folders else suite.load(name)

    other_tasks = [] if training == suite.training else training
    return suite._replace(training=training, datasets=datasets, load=load, other_tasks=other_tasks)


def resolve(suite: Suite, names: list[str], root: Path | None, folders: dict[str, Path]) -> list[str]:
    """The datasets that are meant: the suite's in its order, then the user's own, which are added to the folders.

    Raises DataError for a name that means nothing, or two things.
    """
    papers: dict[str, str] = {}  # the paper's datasets, by all that they are called
    for dataset in paper.NAMES:
        papers |= dict.fromkeys(map(key, paper.names_of(dataset)), dataset)
    by_key = papers if suite.name == "paper" else {key(name): name for name in suite.datasets}
    chosen: dict[str, None] = {}  # a set that keeps the order
    for name in names:
        if key(name) in by_key:
            require_one_meaning(name, root / paper.TABLE[by_key[key(name)]].folder if root else None)
            chosen[by_key[key(name)]] = None
        elif key(name) in papers:
            raise DataError(f"{name}: {papers[key(name)]} is of the paper's suite; give --data DIR, the folder that "
                            "holds its datasets; for a folder of your own of this name, give its whole path")
        elif os.path.isdir(name):
            chosen[add_folder(folders, Path(name), by_key)] = None
        else:
            raise DataError(f"no dataset {name!r} in the {suite.name} suite, and no folder of that name; the suite has "
                            f"{', '.join(suite.datasets)}")
    of_suite = [name for name in suite.datasets if name in chosen]
    own_ones = [name for name in chosen if name in folders]
    return of_suite + own_ones


def require_one_meaning(name: str, own_folder: Path | None) -> None:
    """Raises DataError if a suite's dataset is called like a folder here that isn't `own_folder`, the dataset's own."""
    if not os.path.isdir(name):
        return
    if own_folder is None or not own_folder.exists() or not own_folder.samefile(name):
        raise DataError(f"{name}: a dataset of the suite, and a folder here; rename the folder if that is meant, else "
                        "give the command where there is no such folder")


def add_folder(folders: dict[str, Path], path: Path, taken: Container[str]) -> str:
    """Add a dataset of the user's own; gives its name. Raises DataError unless results can be kept by its folder's."""
    name = composed(path.resolve().name)
    if not name or printable(name) != name or key(name) in taken:
        raise DataError(f"{path}: results are kept by the folder's name, and this one is a dataset's of the suite, or "
                        "can't be printed; rename it, or give the name alone if the suite's dataset is meant")
    if name in AVERAGES:
        raise DataError(f"{path}: tables have a row of averages of this name; rename the folder")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise DataError(f"{path}: results are kept by the folder's name, which takes more than {LONGEST_NAME} bytes; "
                        "rename it")
    for other, other_path in folders.items():
        same_file = other.replace(" ", "") == name.replace(" ", "")  # names of result files are without spaces
        if same_file and other_path.resolve() != path.resolve():
            raise DataError(f"{path}: another folder of that name is given, too; results are kept by name, rename one")
    folders[name] = path
    return name


def key(name: str) -> str:
    """Names are compared without case, spaces, hyphens and underscores, so that they are easy to type."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")
