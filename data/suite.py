"""The two suites: the embedded miniature, and the paper's eleven datasets in a folder."""
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data import mini, paper
from data.dataset import DataError, Dataset


class Suite(NamedTuple):
    name: str                       # "mini" or "paper"
    training: list[str]             # the datasets that are meta-training's tasks (Table 1)
    datasets: list[str]             # those to evaluate on, in Table 2's order
    load: Callable[[str], Dataset]
    weights: Path | None            # None: the user gives them
    meta_epochs: int                # fixed in advance


def open_suite(folder: Path | None, names: list[str] | None = None) -> Suite:
    """The paper's suite in `folder`, or without one the miniature; evaluating on `names` only, if given.

    Raises DataError for a folder or dataset that isn't there.
    """
    if folder is None:
        suite = Suite("mini", mini.TRAINING, list(mini.TABLE), mini.load, mini.WEIGHTS, 50)
    elif folder.is_dir():
        suite = Suite("paper", paper.TRAINING, paper.NAMES, lambda name: paper.load(name, folder), None, 200)
    else:
        raise DataError(f"{folder}: no such folder; --data (or MP_DATA) names the one that holds the datasets")
    if names is None:
        return suite
    by_key = {key(name): name for name in suite.datasets}
    for name in names:
        if key(name) not in by_key:
            raise DataError(f"no dataset {name!r} in the {suite.name} suite; it has {', '.join(suite.datasets)}")
    chosen = {by_key[key(name)] for name in names}
    return suite._replace(datasets=[name for name in suite.datasets if name in chosen])


def key(name: str) -> str:
    """Names are compared without case, spaces, hyphens and underscores, so that they are easy to type."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")
