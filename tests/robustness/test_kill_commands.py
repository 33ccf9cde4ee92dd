"""Every command killed at random moments, losing a thread, racing with itself, with a clock that runs backwards."""
import random
import shutil
import signal
import time

import pytest

import data.feed
from tests.robustness import tiny
from tests.robustness.counts import COUNTS
from tests.robustness.faults import contents, copy, finished, run, start

DATA = "--data data --weights w.pt --datasets dtd imagenet"
SHOTS = "--shots 3 --support 2"
COMMANDS = {
    "data": "data --check --data data --weights w.pt --datasets data/birds", "zeroshot": f"zeroshot {DATA}",
    "meta": f"meta --method coop {SHOTS} {DATA} --epochs 4", "cocoop": f"meta --method cocoop {SHOTS} {DATA}",
    "finetune": f"finetune --method coop {DATA}", "promptsrc": f"finetune --method promptsrc {DATA}",
    "table": "table --run --data data --weights w.pt --datasets dtd",
}
KILLS = {"data": 8, "zeroshot": 7, "meta": 3, "cocoop": 2, "finetune": 7, "promptsrc": 2, "table": 2}  # at least


@pytest.fixture
def fresh(world, tmp_path):
    """Places without any result or cache, as many as are asked for."""
    def place(name):
        copy(world, tmp_path / name)
        for folder in ("runs", "cache"):
            shutil.rmtree(tmp_path / name / folder)
        return tmp_path / name
    return place


def log_lines(place):
    return {str(p.relative_to(place)): p.read_text().count("\n") for p in (place / "runs").rglob("log.jsonl")}


def compare(place, whole, ended, expected):
    ours, theirs = finished(place), finished(whole)
    COUNTS["wrong numbers"] += ours != theirs or ended.out != expected.out
    assert ended.code == 0 and ours == theirs and ended.out == expected.out, ended.err
    assert log_lines(place) == log_lines(whole)
    assert not [p for p in place.rglob("*") if "state" in p.name or "damaged" in p.name or p.suffix == ".part"]


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_moment_the_same_command_goes_on(name, fresh):
    command, rng, kills, rounds = COMMANDS[name], random.Random(name), 0, 0
    whole = fresh("whole")
    started = time.monotonic()
    expected = run(command, whole)
    seconds = time.monotonic() - started
    assert expected.code == 0
    while kills < KILLS[name]:
        rounds += 1
        place, killed, done = fresh(f"broken{rounds}"), True, {}
        while killed:
            call = start(command, place)
            time.sleep(rng.uniform(0, seconds))
            call.kill(rng.choice((signal.SIGKILL, signal.SIGTERM)))
            ended = call.wait()
            killed = ended.code != 0
            assert ended.code in (0, 130, -signal.SIGKILL, -signal.SIGTERM), ended.err
            assert (ended.code == 130) == ("run.py: interrupted; give the same command again to go on" in ended.err)
            kills += killed
            now = finished(place)
            lost = [file for file in done if now.get(file) != done[file]]
            COUNTS["finished results lost"] += len(lost)
            assert not lost
            done = now
        compare(place, whole, ended, expected)
    COUNTS["kills"] += kills


def test_a_table_says_what_a_killed_run_left_undone(fresh):
    place = fresh("place")
    call = start(COMMANDS["table"], place)
    while not list(place.rglob("zeroshot/meta-coop/*.json")):
        time.sleep(0.01)
    call.kill()
    assert call.wait().code == -signal.SIGKILL
    COUNTS["kills"] += 1
    shown = run("table --data data --datasets dtd --absolute", place)
    cells = next(line.split()[2:] for line in shown.out.splitlines() if line.startswith("DTD"))
    done = len(list((place / "runs/paper").rglob("DTD*.json")))
    assert len(cells) == 10 and len(cells) - cells.count("-") == done > 0
    assert f"{10 - done} of 10 results are missing; table --run computes them\n" in shown.err


def lose_a_thread(function):
    """To be called in a child: a thread that prepares images is out of memory when it has done some work."""
    original, calls = getattr(data.feed, function), []

    def dies(*args):
        calls.append(1)
        if len(calls) > 5:
            raise MemoryError
        return original(*args)

    tiny.make_small()
    setattr(data.feed, function, dies)


@pytest.mark.parametrize("command, function", [("finetune --method coop {} --workers 2", "augment"),
                                               ("zeroshot {} --workers 2", "open_image")])
def test_a_thread_runs_out_of_memory(command, function, fresh):
    place, whole = fresh("place"), fresh("whole")
    for root in (place, whole):
        tiny.pictures(root / "many", [f"{name}/{i}.png" for name in ("a", "b", "c") for i in range(70)], 4)
    command = command.format("--data data --weights w.pt --datasets many")
    ended = run(command, place, lambda: lose_a_thread(function))
    COUNTS["kills"] += 1
    assert ended.code == 1 and "run.py: not enough memory" in ended.messages()[0], ended.err
    compare(place, whole, run(command, place), run(command, whole))


def set_the_clock_back():
    """To be called in a child: every reading of the wall clock is an hour before the last one."""
    now = [2e9]

    def earlier():
        now[0] -= 3600
        return now[0]

    tiny.make_small()
    time.time, time.time_ns = earlier, lambda: int(earlier() * 1e9)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "table"])
def test_a_clock_that_is_set_back(name, fresh):
    place, whole = fresh("place"), fresh("whole")
    compare(place, whole, run(COMMANDS[name], place, set_the_clock_back), run(COMMANDS[name], whole))


@pytest.mark.parametrize("name, one_dies", [(name, True) for name in COMMANDS] + [
    (name, False) for name in ("data", "zeroshot", "meta", "finetune")])
def test_two_runs_in_one_folder(name, one_dies, fresh):
    """They take turns: each file is written by one of them, and both end with the same numbers."""
    place, whole = fresh("place"), fresh("whole")
    expected = run(COMMANDS[name], whole)
    calls = [start(COMMANDS[name], place, number=number) for number in range(2)]
    if one_dies:
        time.sleep(random.Random(name).uniform(0, 0.5))
        calls[0].kill()
        COUNTS["kills"] += calls[0].wait().code != 0
    for call in calls[one_dies:]:
        compare(place, whole, call.wait(), expected)
    before = contents(place)
    compare(place, whole, run(COMMANDS[name], place), expected)
    assert contents(place) == before
