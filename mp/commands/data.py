"""run.py data: what is ready of weights and datasets, and what is missing, where it belongs, where to get it."""
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data import paper
from data.dataset import DataError, Dataset, Item
from data.feed import Feed, chunks
from data.suite import Suite, open_suite
from mp.clip import download
from mp.clip.model import load
from mp.runtime import files
from mp.runtime.errors import UserError
from mp.runtime.progress import Progress


class State(NamedTuple):
    """Of the weights or a dataset."""
    ready: bool
    text: str


def command(args: Namespace) -> None:
    """Print one line for each, and two for what isn't ready. Raises UserError if something isn't."""
    suite = open_suite(args.data, args.datasets)
    states = {"weights": weights_state(args.weights or suite.weights)}
    datasets = {}
    for name in suite.datasets:
        try:
            datasets[name] = suite.load(name)
            states[name] = dataset_state(datasets[name], suite)
        except DataError as e:
            states[name] = State(False, str(e).removeprefix(f"{name}: ").removesuffix(f"; {paper.GUIDE}"))
    show(states)
    wrong = [name for name, state in states.items() if not state.ready]
    if suite.name == "paper" and wrong:
        print(paper.GUIDE)
    if args.check:
        feed = Feed(0, workers=args.workers)
        wrong += [name for name, dataset in datasets.items() if not check(dataset, feed)]
    if wrong:
        names = ", ".join(dict.fromkeys(wrong))
        raise UserError(f"not ready: {names}; see above for what is missing and where to get it")


def show(states: dict[str, State]) -> None:
    width = max(map(len, states))
    for name, state in states.items():
        if state.ready:
            print(f"{name.ljust(width)}  ready      {state.text}", flush=True)
        else:
            what, _, advice = state.text.partition("; ")
            print(f"{name.ljust(width)}  NOT READY  {what}", flush=True)
            if advice:
                print(f"{' ' * width}             {advice}", flush=True)


def weights_state(path: Path | None) -> State:
    """Whether the weights can be used, and what they are; None means OpenAI's, in the cache folder."""
    if path is None:
        return openai_state(download.openai_path())
    try:
        clip = load(path)
    except UserError as e:
        return State(False, str(e))
    found = files.sha256(path)
    whose = "OpenAI's" if found == download.SHA256 else f"SHA-256 {found[:12]}…"
    patch = clip.visual.conv1.weight.shape[-1]
    layers = len(clip.visual.transformer.resblocks)
    size = clip.visual.image_size
    return State(True, f"{path}, {layers} layers, {patch}-pixel patches of {size}-pixel images, {whose}")


def openai_state(path: Path) -> State:
    if not path.is_file():
        return State(False, f"no {path}; the first run fetches it, 351 MB, or put it there yourself: {download.URL}")
    if files.sha256(path) != download.SHA256:
        return State(False, f"{path}: not OpenAI's file, its SHA-256 should be {download.SHA256}; the next run fetches "
                            "it")
    return State(True, f"OpenAI's ViT-B/16, {path}")


def dataset_state(dataset: Dataset, suite: Suite) -> State:
    """Whether every image that is listed is there, and the counts; the published benchmark's where they differ."""
    classes, train, test = found = len(dataset.classes), len(dataset.train), len(dataset.test)
    text = f"{classes:5,} classes {train:9,} train {test:7,} test"
    row = paper.TABLE.get(dataset.name) if suite.name == "paper" else None
    if gone := list(absent(dataset.train + dataset.test)):
        where = f"; get it from {row.source}" if row else ""
        return State(False, f"{len(gone):,} of {train + test:,} listed images are missing, the first is "
                            f"{gone[0]}{where}")
    if row and classes != row.counts[0]:
        return State(False, f"{text}; the benchmark has {row.counts[0]} classes: {paper.GUIDE}")
    if row and found != row.counts:
        text += "; the benchmark has {:,} and {:,} images".format(*row.counts[1:])
    return State(True, "; ".join([text, *dataset.notes]))


def absent(items: list[Item]) -> Iterator[str]:
    """Image files that aren't there. Folders are listed, which is quicker than asking for every file."""
    listed: dict[str, set[str]] = {}
    for item in items:
        if not isinstance(item.source, str):
            continue
        folder, name = os.path.split(item.source)
        if folder not in listed:
            listed[folder] = names_in(folder)
        if name not in listed[folder]:
            yield item.source


def names_in(folder: str) -> set[str]:
    """Nothing if there is no such folder. Raises DataError if it can't be read."""
    try:
        return set(os.listdir(folder)) if os.path.isdir(folder) else set()
    except OSError as e:
        raise DataError(f"{folder}: not a readable folder ({e.strerror}); mend that") from None


def check(dataset: Dataset, feed: Feed) -> bool:
    """Open every image once and print the unreadable ones."""
    items, done, bad = dataset.train + dataset.test, 0, 0
    progress = Progress(f"{dataset.name}: opening image", patience=5)
    for found, some in zip(feed.unreadable(items), chunks(items)):
        done += len(some)
        bad += len(found)
        for text in found:
            print(text, flush=True)
        progress.update(done, len(items), f"{bad} unreadable")
    return not bad
