"""run.py data: what is ready of weights and datasets, and what is missing, where it belongs, where to get it."""
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from data import paper
from data.errors import CHECK_ALL, DataError
from data.feed import Feed
from data.suite import Suite, open_suite
from mp.clip import download
from mp.clip.weights import load
from mp.learners.prompts import tokenize_names
from mp.runtime import files
from mp.runtime.errors import UserError, printable
from mp.runtime.progress import Progress


def command(args: Namespace) -> None:
    """Print one line for each, and two for what isn't ready. Raises UserError if something isn't."""
    suite = open_suite(args.data, args.datasets, args.tasks)
    names = list(suite.datasets)
    if args.tasks:
        names += [name for name in suite.training if name not in names]
    width = max(len(name) for name in ["weights", *names])
    wrong = []
    if not report("weights", width, describe_weights, args.weights or suite.weights):
        wrong.append("weights")
    wrong += [name for name in names if not report(name, width, describe_dataset, name, suite)]
    if suite.name == "paper" and wrong:
        print(paper.GUIDE)
    if args.check:
        feed = Feed(0, workers=args.workers)
        wrong += [name for name in names if not check(name, suite, feed)]
    if wrong:
        what = ", ".join(dict.fromkeys(wrong))
        raise UserError(f"not ready: {what}; see above for what is missing and where to get it")


def report(name: str, width: int, describe: Callable[..., str], *arguments) -> bool:
    """Print what `describe` returns of the arguments, or if it raises an error, what is missing. Return whether it is
    ready."""
    try:
        print(printable(f"{name.ljust(width)}  ready      {describe(*arguments)}"), flush=True)
        return True
    except (DataError, UserError) as e:
        what, _, advice = str(e).removeprefix(f"{name}: ").removesuffix(f"; {paper.GUIDE}").partition("; ")
    print(printable(f"{name.ljust(width)}  NOT READY  {what}"), flush=True)
    if advice:
        print(printable(f"{' ' * width}             {advice}"), flush=True)
    return False


def describe_weights(path: Path | None) -> str:
    """Return a line about weights; None means OpenAI's, in the cache folder. Raises UserError if they can't be used."""
    if path is None:
        return describe_openai(download.openai_path())
    clip = load(path)
    whose = "OpenAI's" if clip.sha256 == download.SHA256 else f"SHA-256 {clip.sha256[:12]}…"
    patch = clip.visual.conv1.weight.shape[-1]
    layers = len(clip.visual.transformer.resblocks)
    size = clip.visual.image_size
    return f"{path}, {layers} layers, {patch}-pixel patches of {size}-pixel images, {whose}"


def describe_openai(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"no {path}; the first run fetches it, 351 MB, or put it there yourself: {download.URL}")
    if files.sha256(path) != download.SHA256:
        raise UserError(f"{path}: not OpenAI's file, its SHA-256 should be {download.SHA256}; the next run fetches it")
    return f"OpenAI's ViT-B/16, {path}"


def describe_dataset(name: str, suite: Suite) -> str:
    """Return the counts, the first classes unless the paper's dataset has them, and notes.

    Raises DataError naming what is missing, UserError for class names that are too long for CLIP."""
    dataset = suite.load(name)
    tokenize_names(dataset.template, dataset.classes)
    classes, train, test = len(dataset.classes), len(dataset.train), len(dataset.test)
    text = f"{classes:5,} classes {train:9,} train {test:7,} test"
    row = paper.TABLE.get(name) if suite.name == "paper" else None
    if not row:
        text += f"; the first classes: {', '.join(dataset.classes[:3])}"
    sources = [item.source for item in dataset.train + dataset.test]
    missing = [source for source in sources if isinstance(source, str) and not has_bytes(source)]
    if missing:
        where = f"; get it from {row.source}" if row else ""
        raise DataError(f"{len(missing):,} of {len(sources):,} listed images are missing, empty, or can't be read, the "
                        f"first is {missing[0]}{where}")
    if row and classes != row.counts[0]:
        raise DataError(f"{dataset.notes[0]}; {paper.GUIDE}")
    return "; ".join([text, *dataset.notes])


def has_bytes(file: str) -> bool:
    try:
        return os.stat(file).st_size > 0
    except (OSError, ValueError):  # ValueError: no system has files of such names
        return False


def check(name: str, suite: Suite, feed: Feed) -> bool:
    """Open every image once and print what is wrong with it. Return whether the dataset can be used."""
    try:
        dataset = suite.load(name)
    except DataError:  # which the report has told
        return False
    items, bad = dataset.train + dataset.test, 0
    progress = Progress(f"{name}: opening image", patience=5)
    for done, trouble in enumerate(feed.troubles(items), 1):
        if trouble:
            bad += 1
            print(printable(trouble.removesuffix(CHECK_ALL)), flush=True)
        progress.update(done, len(items), f"{bad} unreadable")
    return not bad
