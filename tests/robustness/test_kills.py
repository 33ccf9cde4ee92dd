"""Runs killed at every write and at random moments, while they learn and save, end with the same bytes as one that never was.

The loops know no files: what is killed here is the saving around them, in mp/experiment, on tasks as small as can be.
"""
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import torch

from data.dataset import Dataset, Item
from data.feed import Feed
from data.suite import Suite
from mp.experiment import training
from mp.experiment.arms import Arm, Job, changed
from mp.experiment.session import Session
from mp.runtime.device import choose
from mp.store import cells
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
    feed = Feed(clip.visual.image_size, workers=0)
    return Session(suite, clip, out, "weights", "fp32", choose("cpu", "fp32", None), feed, {"commit": "c"}, [], learns=True)


def silent(epoch, text):
    pass


def meta_run(method, clip, out, force=False):
    """A meta-prompt, and its accuracies."""
    opened, depth = session(clip, out), {} if method != "promptsrc" else {"depth": 2}
    arm = Arm(method, learnt=changed(epochs=4, inner_steps=2, shots=6, support=3, inner_lr=RATES[method], batch=3, **depth))
    training.learn(opened, Job(arm, 1), force, silent)
    training.evaluate(opened, Job(arm, 1, "one"), force, silent)


def tune_run(method, clip, out, force=False):
    """A fine-tuned prompt, and its accuracies."""
    averaged = {"depth": 2, "gpa_mean": 3.0} if method == "promptsrc" else {}
    arm = Arm(method, tuned=changed(epochs=4, lr=0.01, batch=4, **averaged))
    training.evaluate(session(clip, out), Job(arm, 1, "one"), force, silent)


def start(kind, method, clip, out, before=lambda: None, force=False):
    def run():
        torch.set_num_threads(1)
        sys.stderr = open(os.devnull, "w")
        before()
        kind(method, clip, out, force)

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
    assert sum(name.endswith("prompt.pt") for name in found) == 1
    assert sum(name.endswith(".json") and not name.endswith("settings.json") for name in found) == 1
    assert not [name for name in found if "state" in name or name.endswith((".part", ".damaged"))]
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


@pytest.mark.parametrize("kind, method, after", [(meta_run, "coop", True), (tune_run, "coop", True),
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
    assert kills >= (12 if kind is meta_run else 7)
    COUNTS["kills"] += kills


def as_other_code_would(out):
    """Have the files be what other code would have left: a prompt of other tensors, a result of other numbers. That of a
    meta-prompt, which is another, has another name."""
    for path in out.rglob("*prompt.pt"):
        content = torch.load(path, weights_only=True)
        torch.save(content | {"params": {name: tensor + 1 for name, tensor in content["params"].items()}}, path)
    for path in [*out.glob("zeroshot/*/*.json"), *out.glob("finetune/*/*.json")]:
        content = json.loads(path.read_text()) | {"accuracies": {"base": 1.0, "new": 2.0, "all": 3.0}}
        path.unlink()
        if content["identity"]["meta"]:
            content["identity"]["prompt"] = "the other one's"
            path = path.with_name(f"one-seed1-{cells.digits_of(content['identity'])}.json")
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind, writes", [(meta_run, (4, 12, 24, 26)), (tune_run, (2, 6, 10, 12))])
def test_a_killed_force_goes_on_without_it_to_the_new_number(kind, writes, clip, tmp_path):
    """What it keeps is newer than what lies beside it: killed after its first and third state, the prompt, and of meta the
    removal of the state, of fine-tuning the result."""
    whole = never_killed(kind, "coop", clip, tmp_path / "whole")
    as_other_code_would(tmp_path / "whole")
    for number in writes:
        out = tmp_path / f"broken{number}"
        shutil.copytree(tmp_path / "whole", out)
        process = start(kind, "coop", clip, out, lambda number=number: kill_at(number, after=True), force=True)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        process = start(kind, "coop", clip, out)
        process.join()
        assert process.exitcode == 0
        found = left(out)
        COUNTS["wrong numbers"] += not whole.items() <= found.items()
        assert all(found[name] == whole[name] for name in whole)
        assert not [name for name in found if "state" in name or name.endswith(".damaged")]
    COUNTS["kills"] += len(writes)
