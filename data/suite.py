"""The two suites: the embedded miniature, and the paper's eleven datasets in a folder; and datasets of one's own."""
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from data import folder as own
from data import paper
from data.miniature import suite as mini
from data.dataset import DataError, Dataset


class Suite(NamedTuple):
    name: str                       # "mini" or "paper"
    training: list[str]             # the datasets that are meta-training's tasks (Table 1)
    datasets: list[str]             # those to evaluate on: in Table 2's order, then the user's own
    load: Callable[[str], Dataset]
    weights: Path | None            # None: OpenAI's, or the user's
    meta_epochs: int                # fixed in advance


def open_suite(root: Path | None, names: list[str] | None = None) -> Suite:
    """The paper's suite in `root`, or without one the miniature; evaluating on `names` only, if given.

    A name is one of the suite's, or a folder with one sub-folder per class.
    Raises DataError for a folder or dataset that isn't there.
    """
    if root is None:
        suite = Suite("mini", mini.TRAINING, list(mini.TABLE), mini.load, mini.WEIGHTS, 50)
    elif os.path.isdir(root):
        suite = Suite("paper", paper.TRAINING, paper.NAMES, cache(lambda name: paper.load(name, root)), None, 200)
    else:
        raise DataError(f"{root}: no such folder; --data (or MP_DATA) names the one that holds the datasets")
    if names is None:
        return suite
    by_key = {key(name): name for name in suite.datasets}
    folders: dict[str, Path] = {}
    files: dict[str, Path] = {}  # by the names of their result files, which are without spaces
    chosen = set()
    for name in names:
        if key(name) in by_key:
            chosen.add(by_key[key(name)])
        elif not os.path.isdir(name):
            raise DataError(f"no dataset {name!r} in the {suite.name} suite, and no folder of that name; the suite has "
                            f"{', '.join(suite.datasets)}")
        elif key(own_name := Path(name).resolve().name) in by_key or not own_name.isprintable() or not own_name:
            raise DataError(f"{name}: results are kept by the folder's name, and this one is a dataset's of the suite, or "
                            "can't be printed; rename it")
        elif files.setdefault(own_name.replace(" ", ""), folders.setdefault(own_name, Path(name))) != Path(name):
            raise DataError(f"{name}: another folder of that name is given, too; results are kept by name, rename one")

    def load(name: str) -> Dataset:
        return own.load(folders[name]) if name in folders else suite.load(name)

    wanted = [name for name in suite.datasets if name in chosen]
    return suite._replace(datasets=wanted + list(folders), load=cache(load))


def key(name: str) -> str:
    """Names are compared without case, spaces, hyphens and underscores, so that they are easy to type."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")
