"""Runs killed at every write and at random moments, while they learn and save, end with the same bytes as one that never was.

The loops know no files: what is killed here is the saving around them, in mp/commands, on tasks as small as can be.
"""
import json
import multiprocessing
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
import torch

from data.dataset import Dataset, Item
from data.feed import Feed
from data.suite import Suite
from mp.commands import finetune as tune
from mp.commands import meta
from mp.commands.session import Session
from mp.settings import FinetuneSettings, MetaSettings
from tests.robustness.counts import COUNTS

KILLS = 2  # at random moments, of each kind of run
CLASSES = {"one": ["cat", "t-rex", "sea or lake"], "two": ["café", "wheelchair"]}
RATES = dict(coop=0.004, cocoop=0.004, promptsrc=0.003)


def dataset(name: str) -> Dataset:
    rng = np.random.default_rng(len(name))
    items = {part: [Item(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), label)
                    for label in range(len(CLASSES[name])) for _ in range(6)] for part in ("train", "test")}
    return Dataset(name, "a photo of a {}.", CLASSES[name], items["train"], items["test"])


def session(clip, out) -> Session:
    suite = Suite("tiny", list(CLASSES), list(CLASSES), {name: dataset(name) for name in CLASSES}.__getitem__, None, 4)
    return Session(suite, clip, out, "weights", "fp32", Feed(clip.visual.image_size, workers=0), {"commit": "c"})


def meta_run(method, clip, out):
    settings = MetaSettings(method, depth=2, epochs=4, inner_steps=2, shots=6, support=3, inner_lr=RATES[method], batch=3)
    meta.learn(session(clip, out), settings)


def tune_run(method, clip, out):
    opened = session(clip, out)
    settings = FinetuneSettings(method, depth=2, epochs=4, lr=0.01, batch=4, gpa_mean=3.0)
    tune.tune_one(opened, opened.test_set("one"), settings, tune.find_init(opened, "handcrafted", settings), False, lambda *_: None)


def start(kind, method, clip, out, before=lambda: None):
    def run():
        torch.set_num_threads(1)
        sys.stderr = open(os.devnull, "w")
        before()
        kind(method, clip, out)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def left(out):
    """Everything that a run left, but for the time it took."""
    found = {}
    for path in out.rglob("*"):
        name = str(path.relative_to(out))
        if path.name == "log.jsonl":
            found[name] = [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            content = json.loads(path.read_text())
            content["provenance"].pop("seconds", None)
            found[name] = content
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def same(out, whole):
    COUNTS["wrong numbers"] += left(out) != whole
    assert left(out) == whole


def never_killed(kind, method, clip, out):
    process = start(kind, method, clip, out)
    process.join()
    assert process.exitcode == 0
    found = left(out)
    assert any(name.endswith("prompt.pt") for name in found)
    assert not [name for name in found if "state" in name or name.endswith(".part")]
    if kind is meta_run:
        log, = (lines for name, lines in found.items() if name.endswith("log.jsonl"))
        assert [line["epoch"] for line in log] == [1, 2, 3, 4]
    return found


@pytest.mark.parametrize("method", ["coop", "cocoop", "promptsrc"])
@pytest.mark.parametrize("kind", [meta_run, tune_run])
def test_killed_at_any_moment(kind, method, clip, tmp_path):
    started = time.monotonic()
    whole = never_killed(kind, method, clip, tmp_path / "whole")
    seconds, rng, kills, rounds = time.monotonic() - started, random.Random(method), 0, 0
    while kills < KILLS:
        rounds += 1
        out, killed = tmp_path / f"broken{rounds}", True
        while killed:
            process = start(kind, method, clip, out)
            process.join(rng.uniform(0, seconds))
            process.kill()
            process.join()
            killed = process.exitcode != 0
            kills += killed
        same(out, whole)
    COUNTS["kills"] += kills


def kill_at(number: int, after: bool) -> None:
    """To be called in a child: it is killed right before or after its number-th write or removal of a file takes effect."""
    seen = [0]

    def fatal(function):
        def wrapped(*args, **more):
            seen[0] += 1
            if seen[0] == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **more)
            finally:
                if seen[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
        return wrapped

    os.replace, os.unlink = fatal(os.replace), fatal(os.unlink)


@pytest.mark.parametrize("kind, method, after", [(meta_run, "coop", False), (meta_run, "coop", True), (tune_run, "coop", True),
                                                 (tune_run, "promptsrc", False)])
def test_killed_at_every_write(kind, method, after, clip, tmp_path):
    whole, kills = never_killed(kind, method, clip, tmp_path / "whole"), 0
    for number in range(1, 100):
        out = tmp_path / f"broken{number}"
        process = start(kind, method, clip, out, lambda number=number: kill_at(number, after))
        process.join()
        if process.exitcode == 0:  # it has fewer writes
            break
        kills += 1
        assert process.exitcode == -signal.SIGKILL
        process = start(kind, method, clip, out)
        process.join()
        assert process.exitcode == 0
        same(out, whole)
    assert kills >= (11 if kind is meta_run else 6)
    COUNTS["kills"] += kills
