"""Runs killed at every write, out of memory, or racing with another one, end with the bytes of one that never was."""
import json
import os
import shutil
import signal
import sys
from functools import partial
from itertools import count

import pytest
import torch

import data.feed
from mp.prompts import open_prompt
from mp.store import cells
from tests.robustness import tiny
from tests.robustness.faults import META, SUITE, TUNE, TUNE_DEEP, ZEROSHOT, copy, finished, run, start

ZERO = f"{ZEROSHOT} dtd imagenet"
LEARN = f"{META.format('cocoop')} --epochs 3 --inner-steps 2"
DEEP = f"{TUNE_DEEP} --epochs 3"
TABLE = f"table --run {SUITE}"


@pytest.fixture
def fresh(world, tmp_path):
    """Places without any result or cache, as many as are asked for."""
    def place(name):
        copy(world, tmp_path / name)
        for folder in ("runs", "cache"):
            shutil.rmtree(tmp_path / name / folder)
        return tmp_path / name
    return place


def die_at(number, how=signal.SIGKILL):
    """In a child: end it right before the number-th file is written, that is renamed, or removed.

    After that one is before the next one: nothing else changes what others can read, as `write_parts_alone` holds.
    """
    tiny.make_small()
    changes = count(1)

    def fatal(function):
        def wrapped(path, *rest, **options):
            if os.path.lexists(path) and next(changes) == number:
                os.kill(os.getpid(), how)
            return function(path, *rest, **options)
        return wrapped

    os.replace, os.unlink = fatal(os.replace), fatal(os.unlink)


def write_parts_alone():
    """In a child: make it an error to open a file of results or caches for writing under its own name."""
    def hook(event, args):
        if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR):
            parts = os.fspath(args[0]).split("/")
            assert not {"runs", "cache"} & {*parts} or parts[-1].endswith((".part", ".lock")), args[0]

    tiny.make_small()
    sys.addaudithook(hook)


def left(place):
    """Return everything that a run left among its results, but for the time it took."""
    files = {}
    for path in (place / "runs").rglob("*"):
        name = str(path.relative_to(place))
        if path.name == "log.jsonl":
            files[name] = [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            files[name] = json.loads(path.read_text())
            files[name]["provenance"].pop("seconds", None)
        elif path.is_file():
            files[name] = path.read_bytes()
    return files


def compare(place, ended, whole, expected):
    assert (ended.code, ended.out) == (0, expected.out), ended.err
    files = left(place)
    assert files == left(whole)
    assert not [name for name in files if "state" in name or name.endswith((".damaged", ".part"))]


@pytest.mark.parametrize("command, writes", [(ZERO, 4), (LEARN, 11), (DEEP, 6)], ids=["zeroshot", "meta", "finetune"])
def test_killed_at_every_write_it_goes_on_to_the_same_bytes(command, writes, fresh):
    whole = fresh("whole")
    expected = run(command, whole, write_parts_alone)
    for number in count(1):
        place = fresh(f"killed{number}")
        ended = run(command, place, partial(die_at, number))
        if ended.code == 0:  # it has fewer writes
            break
        assert ended.code == -signal.SIGKILL
        compare(place, run(command, place), whole, expected)
    compare(place, ended, whole, expected)
    assert number > writes


def test_a_table_killed_again_and_again(fresh):
    """Meanwhile what is done stays, and is shown."""
    whole, place, done, kills = fresh("whole"), fresh("place"), {}, 0
    expected = run(TABLE, whole)
    while (ended := run(TABLE, place, partial(die_at, 8, (signal.SIGKILL, signal.SIGTERM)[kills % 2]))).code:
        kills += 1
        assert ended.code in (-signal.SIGKILL, 130)
        assert (ended.code == 130) == ("run.py: interrupted; give the same command again to go on" in ended.err)
        now = finished(place)
        assert is_within(done, now)
        done = now
        missing = 10 - sum(name.endswith(".json") for name in done)
        said = run(f"table {SUITE}", place).err
        assert f"{missing} of 10 results are missing; table --run computes them" in said or not missing
    compare(place, ended, whole, expected)
    assert kills > 4


def as_other_code_would(place):
    """Have the files be what other code would have left: a prompt of other tensors, a result of other numbers. That of
    a meta-prompt, which is another, has another name."""
    for path in (place / "runs").rglob("*prompt.pt"):
        content = torch.load(path, weights_only=True)
        torch.save(content | {"params": {name: tensor + 1 for name, tensor in content["params"].items()}}, path)
    for path in (place / "runs").rglob("DTD-seed1-*.json"):
        content = json.loads(path.read_text()) | {"accuracies": {"base": 1.0, "new": 2.0, "all": 3.0}}
        path.unlink()
        if content["identity"]["meta"]:
            content["identity"]["prompt"] = "the other one's"
            path = path.with_name(f"DTD-seed1-{cells.digits_of(content['identity'])}.json")
        path.write_text(json.dumps(content))


def numbers(place):
    """Return the accuracies of all results, and the fingerprints of all prompts."""
    done = finished(place)
    return {name: open_prompt(place / name).fingerprint if name.endswith(".pt") else done[name] for name in done}


def is_within(some, all_of_them):
    return all(all_of_them.get(name) == value for name, value in some.items())


def die_in_the_first_epoch():
    """In a child: end it when it takes a gradient."""
    tiny.make_small()
    torch.autograd.grad = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("command", [LEARN, DEEP], ids=["meta", "finetune"])
def test_a_killed_force_goes_on_without_it_to_the_new_number(command, fresh, tmp_path):
    """As soon as it has begun to learn: there is a state, which is newer than what lies beside it."""
    whole, kills = fresh("whole"), 0
    run(command, whole)
    right = numbers(whole)
    as_other_code_would(whole)
    older = numbers(whole)
    assert not is_within(right, older)
    for number in count():
        place = copy(whole, tmp_path / f"killed{number}")
        if run(f"{command} --force", place, partial(die_at, number) if number else die_in_the_first_epoch).code == 0:
            break
        if number and numbers(place) == older and not list(place.rglob("*state-*.pt")):
            continue  # nothing was learnt yet
        kills += 1
        assert run(command, place).code == 0
        assert is_within(right, numbers(place))
        assert not [path for path in place.rglob("*") if "state" in path.name or path.suffix == ".damaged"]
    assert kills > 5


def lose_a_thread(function):
    """In a child: let a thread that prepares images be out of memory when it has done some work."""
    original, calls = getattr(data.feed, function), []

    def dies(*args):
        calls.append(1)
        if len(calls) > 5:
            raise MemoryError
        return original(*args)

    tiny.make_small()
    setattr(data.feed, function, dies)


@pytest.mark.parametrize("command, function", [("finetune --method coop", "augment"), ("zeroshot", "open_image")])
def test_a_thread_runs_out_of_memory(command, function, fresh):
    place, whole = fresh("place"), fresh("whole")
    for root in (place, whole):
        tiny.pictures(root / "many", [f"{name}/{i}.png" for name in ("a", "b", "c") for i in range(30)], 4)
    command += " --workers 2 --data data --weights w.pt --datasets many"
    ended = run(command, place, partial(lose_a_thread, function))
    assert ended.code == 1 and "run.py: not enough memory" in ended.messages()[0], ended.err
    compare(place, run(command, place), whole, run(command, whole))


@pytest.mark.parametrize("command, dies", [(ZERO, False), (TUNE, True)])
def test_two_runs_in_one_folder(command, dies, fresh):
    """They take turns: each file is written by one of them; if one is killed, the other goes on."""
    place, whole = fresh("place"), fresh("whole")
    expected = run(command, whole)
    calls = [start(command, place, partial(die_at, 2) if dies else tiny.make_small), start(command, place, number=1)]
    first, second = (call.wait() for call in calls)
    compare(place, second, whole, expected)
    assert first.code == -signal.SIGKILL or (first.code, first.out) == (0, expected.out)
