"""run.py data: what is ready of weights and datasets, and what is missing, where it belongs, where to get it."""
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data import paper
from data.dataset import DataError, Dataset, Item
from data.feed import Feed, chunks
from data.suite import open_suite
from mp.clip import download
from mp.runtime import files
from mp.clip.model import load
from mp.runtime.errors import UserError
from mp.runtime.progress import Progress


def command(args: Namespace) -> None:
    """Print one line for each, and two for what isn't ready. Raises UserError if something isn't."""
    suite = open_suite(args.data, args.datasets)
    states = {"weights": weights_state(args.weights or suite.weights)}
    datasets = {}
    for name in suite.datasets:
        try:
            datasets[name] = suite.load(name)
            states[name] = dataset_state(datasets[name], suite.name)
        except DataError as e:
            states[name] = False, str(e).removeprefix(f"{name}: ").removesuffix(f"; {paper.GUIDE}")
    width = max(map(len, states))
    for name, (ready, text) in states.items():
        if not ready:
            text = text.replace("; ", "\n" + " " * (width + 13), 1)
        print(f"{name.ljust(width)}  {'ready    ' if ready else 'NOT READY'}  {text}", flush=True)
    wrong = [name for name, (ready, _) in states.items() if not ready]
    if suite.name == "paper" and wrong:
        print(paper.GUIDE)
    if args.check:
        feed = Feed(0, workers=args.workers)
        wrong += [name for name, dataset in datasets.items() if not check(dataset, feed)]
    if wrong:
        raise UserError(f"not ready: {', '.join(dict.fromkeys(wrong))}; see above for what is missing and where to get it")


def weights_state(path: Path | None) -> tuple[bool, str]:
    """Whether the weights can be used, and what they are; None means OpenAI's, in the cache folder."""
    if path is None:
        path = download.openai_path()
        if not path.is_file():
            return False, f"no {path}; the first run fetches it, 351 MB, or put it there yourself: {download.URL}"
        if files.sha256(path) != download.SHA256:
            return False, f"{path}: not OpenAI's file, its SHA-256 should be {download.SHA256}; the next run fetches it"
        return True, f"OpenAI's ViT-B/16, {path}"
    try:
        clip = load(path)
    except UserError as e:
        return False, str(e)
    found = files.sha256(path)
    whose = "OpenAI's" if found == download.SHA256 else f"SHA-256 {found[:12]}…"
    patch = clip.visual.conv1.weight.shape[-1]
    return True, (f"{path}, {len(clip.visual.transformer.resblocks)} layers, {patch}-pixel patches of "
                  f"{clip.visual.image_size}-pixel images, {whose}")


def dataset_state(dataset: Dataset, suite: str) -> tuple[bool, str]:
    """Whether every image that is listed is there, and the counts; the published benchmark's where they differ."""
    found = len(dataset.classes), len(dataset.train), len(dataset.test)
    text = "{:5,} classes {:9,} train {:7,} test".format(*found)
    if gone := list(absent(dataset.train + dataset.test)):
        row = paper.TABLE.get(dataset.name)
        where = f"; get it from {row.source}" if row else ""
        listed = found[1] + found[2]
        return False, f"{len(gone):,} of {listed:,} listed images are missing, the first is {gone[0]}{where}"
    if suite == "paper" and dataset.name in paper.TABLE:
        expected = paper.TABLE[dataset.name].counts
        if found[0] != expected[0]:
            return False, f"{text}; the benchmark has {expected[0]} classes: {paper.GUIDE}"
        if found != expected:
            text += "; the benchmark has {:,} and {:,} images".format(*expected[1:])
    return True, text


def absent(items: list[Item]) -> Iterator[str]:
    """Image files that aren't there. Folders are listed, which is quicker than asking for every file."""
    listed: dict[str, set[str]] = {}
    for item in items:
        if isinstance(item.source, np.ndarray):
            continue
        folder, name = os.path.split(item.source)
        if folder not in listed:
            try:
                listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            except OSError as e:
                raise DataError(f"{folder}: not a readable folder ({e.strerror}); mend that") from None
        if name not in listed[folder]:
            yield item.source


def check(dataset: Dataset, feed: Feed) -> bool:
    """Open every image once and print the unreadable ones."""
    items, done, bad = dataset.train + dataset.test, 0, 0
    progress = Progress(f"{dataset.name}: opening image", patience=5)
    for found, some in zip(feed.unreadable(items), map(len, chunks(items))):
        done, bad = done + some, bad + len(found)
        for text in found:
            print(text, flush=True)
        progress.update(done, len(items), f"{bad} unreadable")
    return not bad
