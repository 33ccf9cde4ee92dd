"""A miniature of the miniature, in which commands take a fraction of a second and what they learn shows in the numbers:
four of its datasets with few classes and images, and short but violent training.

`run` calls commands as run.py does, in this process; `python -m tests.walks.small COMMAND` is run.py in another one.
Only `data/` and the table of methods are made small, so nothing here knows how commands are built.
"""
import io
import shlex
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import run as program
from data.dataset import Dataset, Item
from data.miniature import suite as mini
from mp.learners import METHODS

SIZES = {"flowers": 5, "pets": 4, "general": 5, "cars": 4}  # classes; 5 have 3 base and 2 new ones
TRAINING = ["flowers", "pets"]
TRAIN, TEST = 5, 10  # images a class
TUNED = dict(epochs=3, lr=0.05, batch=4, shots=3)  # the first epoch only warms up
LEARNT = dict(inner_steps=3, inner_lr=0.01, meta_lr=0.03, batch=4, shots=3, support=2)
META_EPOCHS = 2
TEMPLATES = ["a photo of a {}.", "a drawing of the {}.", "itap of my {}."]  # instead of 60
REAL_LOAD, REAL_TABLE = mini.load, mini.TABLE


@cache
def load(name: str, stream: str = "test") -> Dataset:
    """The last classes, which are harder to tell apart, and the first images of each."""
    whole, count = REAL_LOAD(name, stream), SIZES[name]
    classes = whole.classes[-count:]

    def few(items: list[Item], shown: int) -> list[Item]:
        found = []
        for label, word in enumerate(classes):
            same = [item.source for item in items if whole.classes[item.label] == word]
            found += [Item(source, label) for source in same[:shown]]
        return found

    return Dataset(name, whole.template, classes, few(whole.train, TRAIN), few(whole.test, TEST))


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make the suite and every training small, until the patch is undone."""
    for name in SIZES:
        load(name)  # of the real table
    patch.setattr(mini, "TABLE", {name: REAL_TABLE[name] for name in SIZES})
    patch.setattr(mini, "TRAINING", TRAINING)
    patch.setattr(mini, "META_EPOCHS", META_EPOCHS)
    patch.setattr(mini, "load", load)
    patch.setattr("mp.learners.promptsrc.TEMPLATES", TEMPLATES)
    for name, row in METHODS.items():
        patch.setitem(METHODS, name, row._replace(finetune=row.finetune | TUNED, meta=row.meta | LEARNT))


@contextmanager
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield


def make_small() -> None:
    """Make all small for the rest of this process."""
    shrink(pytest.MonkeyPatch())


class Ended(NamedTuple):
    out: str
    err: str


def run(place: Path, command: str, code: int = 0) -> Ended:
    """What `run.py COMMAND`, given in this folder, prints; it must end with the code."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with small(), pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(place)
        patch.setattr("sys.argv", ["run.py", *shlex.split(command)])
        ended = program.main(shlex.split(command))
    said = Ended(*(stream.buffer.getvalue().decode() for stream in (out, err)))
    assert ended == code, said.err
    return said


class Counter:
    """Counts gradients, and ends the run as Ctrl-C does at the `last` of them."""

    def __init__(self, last: int | None = None):
        self.calls, self.last, self.original = 0, last, torch.autograd.grad

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.last:
            raise KeyboardInterrupt
        return self.original(*args, **options)


@contextmanager
def counted(last: int | None = None) -> Iterator[Counter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "grad", counter := Counter(last))
        yield counter


@contextmanager
def no_images() -> Iterator[None]:
    """Within, looking at an image is an error."""
    def refuse(*_: Any) -> None:
        raise AssertionError("an image went through CLIP")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mp.clip.model.CLIP.encode_image", refuse)
        yield


if __name__ in ("__main__", "__mp_main__"):  # run.py as a process of its own; the second name is in those that it starts
    make_small()
if __name__ == "__main__":
    sys.argv[0] = "run.py"
    program.end_when_interrupted()
    sys.exit(program.main(sys.argv[1:]))
