"""Several processes: the same meta-prompt and table as one, one writer per file, and an end when one dies."""
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch

from mp.learners.coop import CoOp
from mp.runtime import processes
from mp.runtime.processes import join
from mp.runtime.errors import RunError
from mp.learners import METHODS
from mp.settings import MetaSettings
from mp.tasks import Task
from tests.conftest import ROOT
from tests.trainings import learn, session_of

WORDS = {"one": ["cat", "t-rex", "sea or lake"], "two": ["café", "wheelchair"], "three": ["dog", "red fox"]}


def train(clip, recipe, folder, rank=0, world=1, epochs=10, die=None):
    """Rank's share of a meta-training on three tasks."""
    learner, tasks = CoOp(clip), []
    for number, (name, words) in enumerate(WORDS.items()):
        labels = torch.arange(len(words)).repeat_interleave(8)
        images = torch.from_numpy(recipe.images("A", name, len(labels)))
        tasks.append(Task(name, learner.prepare(clip, words), learner.inputs(clip, images), labels)
                     if number % world == rank else Task(name))

    def report(epoch, text):
        if epoch == die:
            os.kill(os.getpid(), signal.SIGKILL)

    changes = {"epochs": epochs, "shots": 8, "support": 4, "batch": 6}
    settings = MetaSettings("coop", **METHODS["coop"].meta | changes)
    return learn(session_of(clip), learner, tasks, settings, folder, report)


def worker(clip, recipe, folder, rank, world, port, results, die):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    join(torch.device("cpu"))
    try:
        results.put((rank, train(clip, recipe, folder / str(rank), rank, world, die=die if rank == 1 else None)["ctx"].numpy()))
    except RunError as e:
        results.put((rank, str(e)))


def start(clip, recipe, folder, world, die=None):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [context.Process(target=worker, args=(clip, recipe, folder, rank, world, port, results, die)) for rank in range(world)]
    for p in workers:
        p.start()
    found = dict(results.get() for _ in range(world - (die is not None)))
    for p in workers:
        p.join(30)
    return found


@pytest.mark.parametrize("world", [2, 3])
def test_the_same_meta_prompt_as_one_process(clip, recipe, tmp_path, world):
    alone = train(clip, recipe, tmp_path / "alone")["ctx"]
    assert (alone - CoOp(clip).ctx).abs().max() > 1e-3  # it moved
    found = start(clip, recipe, tmp_path, world)
    assert len(found) == world
    for ctx in found.values():
        torch.testing.assert_close(torch.from_numpy(ctx), alone, rtol=0, atol=1e-6)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["0", "alone"]  # only the first process writes
    lines = [(tmp_path / f / "log.jsonl").read_text().splitlines() for f in ("0", "alone")]
    for a, b in zip(*(map(json.loads, text) for text in lines), strict=True):
        assert a["tasks"] == pytest.approx(b["tasks"], abs=1e-5) and a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_a_dead_process_ends_the_others(clip, recipe, tmp_path):
    found = start(clip, recipe, tmp_path, 2, die=4)
    assert found == {0: "another process of this run is gone; give the same command again; "
                        "the state of the last good epoch is kept"}
    state = torch.load(tmp_path / "0" / "state-cpu-fp32.pt", weights_only=True)
    assert 4 <= len(state["log"]) < 10


def waits_for_the_first(rank, port, results):
    """The first process is kept waiting, as by another run's lock, for longer than a collective's time-out."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    processes.PATIENCE = timedelta(seconds=2)
    processes.join(torch.device("cpu"))

    def find():
        time.sleep(4)
        return {"tensor": torch.arange(3.0), "path": str(ROOT)}

    found = processes.agree(find)
    if rank == 1:
        time.sleep(4)
    arrived = time.time()
    processes.meet()
    results.put((rank, found["tensor"].tolist(), found["path"], arrived, time.time()))
    processes.meet()  # whoever leaves first takes the messages with it


def test_no_process_waits_in_a_collective_for_another_that_is_kept_waiting():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    both = [context.Process(target=waits_for_the_first, args=(rank, port, results)) for rank in range(2)]
    for process in both:
        process.start()
    found = [results.get() for _ in both]
    for process in both:
        process.join(30)
    assert {(rank, *tensor, path) for rank, tensor, path, _, _ in found} == {(0, 0, 1, 2, str(ROOT)), (1, 0, 1, 2, str(ROOT))}
    assert min(left for *_, left in found) >= max(arrived for *_, arrived, _ in found)  # nobody left before all had come


def test_trouble_that_all_processes_have_is_told_once(tmp_path):
    """And no process but the first says that it was interrupted."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--", "run.py"]
    command = [*torchrun, "meta", "--method", "coop", "--datasets", "nowhere", "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    ours = [line for line in ended.stderr.splitlines() if line.startswith("run.py: ")]
    assert ended.returncode and len(ours) == 1 and "no dataset 'nowhere'" in ours[0], ended.stderr


def test_the_table_of_two_processes_is_that_of_one(tmp_path):
    """The real command under torchrun, with small settings; then interrupted, and gone on with."""
    common = ["-m", "tests.small_run", "table", "--run", "--datasets", "aircraft", "textures", "--format", "csv"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    one = [sys.executable, *common, "--out", str(tmp_path / "one")]
    process = subprocess.Popen(one, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "one").rglob("*-seed1-*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "interrupted; give the same command again to go on" in process.communicate()[1] and process.returncode == 130
    first = subprocess.run(one, cwd=ROOT, env=env, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-2000:]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "--", *common[1:],
                "--out", str(tmp_path / "two")]  # without "--" torchrun takes --run for an option of its own
    second = subprocess.run(torchrun, cwd=ROOT, env=env, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    rows = [[line.split(",") for line in result.stdout.splitlines()] for result in (first, second)]
    assert [r[:2] for r in rows[0]] == [r[:2] for r in rows[1]] and len(rows[0]) == 9
    for a, b in zip(rows[0][1:], rows[1][1:]):
        assert all(abs(float(x) - float(y)) < 1.01 for x, y in zip(a[2:], b[2:], strict=True))  # rounding flips an image or two
    names = [sorted(p.relative_to(tmp_path / f).as_posix() for p in (tmp_path / f).rglob("*.*") if not p.name.startswith("."))
             for f in ("one", "two")]
    assert names[0] == names[1] and not [n for n in names[0] if ".part" in n or "damaged" in n or "state" in n]
    again = subprocess.run(one, cwd=ROOT, env=env, capture_output=True, text=True)
    assert again.stdout == first.stdout and "meta-training" not in again.stderr and "tunes" not in again.stderr
