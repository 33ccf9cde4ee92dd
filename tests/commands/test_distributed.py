"""Several processes: the same meta-prompt and table as one, one writer per file, and an end when one dies."""
import json
import multiprocessing
import os
import re
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
from tests.robustness.forked import Call
from tests.trainings import learn, session_of
from tests.walks import outputs
from tests.walks.small import counted, make_small, run

WORDS = {"one": ["cat", "t-rex", "sea or lake"], "two": ["café", "wheelchair"], "three": ["dog", "red fox"]}


def train(clip, recipe, folder, rank=0, world=1, die=None):
    """Learn a rank's share of a meta-prompt of three tasks; return its tensors. After epoch `die` the process dies."""
    learner, tasks = CoOp(clip), []
    for number, (name, words) in enumerate(WORDS.items()):
        labels = torch.arange(len(words)).repeat_interleave(8)
        images = torch.from_numpy(recipe.images("A", name, len(labels)))
        tasks.append(Task(name, learner.prepare(clip, words), learner.inputs(clip, images), labels)
                     if number % world == rank else Task(name))

    def report(epoch, text):
        if epoch == die:
            os.kill(os.getpid(), signal.SIGKILL)

    changes = {"epochs": 3, "shots": 8, "support": 4, "batch": 6}
    settings = MetaSettings("coop", **METHODS["coop"].meta | changes)
    return learn(session_of(clip), learner, tasks, settings, folder, report)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def worker(clip, recipe, folder, rank, world, port, results, die):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    join(torch.device("cpu"))
    try:
        params = train(clip, recipe, folder / str(rank), rank, world, die=die if rank == 1 else None)
        results.put((rank, params["ctx"].numpy()))
    except RunError as e:
        results.put((rank, str(e)))


def start(clip, recipe, folder, world, die=None):
    """Return what each process learns, or says at its end, by its rank."""
    context, port = multiprocessing.get_context("fork"), free_port()
    results = context.SimpleQueue()
    workers = [context.Process(target=worker, args=(clip, recipe, folder, rank, world, port, results, die))
               for rank in range(world)]
    for process in workers:
        process.start()
    answers = dict(results.get() for _ in range(world - (die is not None)))
    for process in workers:
        process.join(30)
    return answers


@pytest.fixture(scope="module")
def alone(clip, recipe, tmp_path_factory):
    """The folder and the tensor of one process's meta-training."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, train(clip, recipe, folder)["ctx"]


@pytest.mark.parametrize("world", [2, 3])
def test_the_same_meta_prompt_as_one_process(clip, recipe, alone, tmp_path, world):
    folder, expected = alone
    assert (expected - CoOp(clip).ctx).abs().max() > 1e-3  # it moved
    learnt = start(clip, recipe, tmp_path, world)
    assert len(learnt) == world
    for ctx in learnt.values():
        torch.testing.assert_close(torch.from_numpy(ctx), expected, rtol=0, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]  # only the first process writes
    lines = [(place / "log.jsonl").read_text().splitlines() for place in (tmp_path / "0", folder)]
    for a, b in zip(*(map(json.loads, text) for text in lines), strict=True):
        assert a["tasks"] == pytest.approx(b["tasks"], abs=1e-5) and a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_a_dead_process_ends_the_others(clip, recipe, tmp_path):
    said = start(clip, recipe, tmp_path, 2, die=1)
    assert said == {0: "another process of this run is gone; give the same command again; "
                       "the state of the last good epoch is kept"}
    state = torch.load(tmp_path / "0" / "state-cpu-fp32.pt", weights_only=True)
    assert 1 <= len(state["log"]) < 3


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
    context, port = multiprocessing.get_context("fork"), free_port()
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
    """To the last bit, as a sum of two tasks has one order."""
    command = "table --run --tasks pets flowers --datasets cars general --format csv"
    places = tmp_path / "one", tmp_path / "two"
    for place in places:
        place.mkdir()
    alone = run(places[0], command)
    variables = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    calls = [Call(command.split(), places[1], make_small, rank, RANK=str(rank), **variables) for rank in range(2)]
    first, second = [call.wait() for call in calls]
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.out == alone.out and second.out == ""
    ours, theirs = (outputs.numbers(place) for place in places)
    assert ours == theirs and len(ours) == 2 * 10
    names = [{path.relative_to(place) for path in outputs.everything(place)} for place in places]
    assert names[0] == names[1] and not [name for name in names[0] if re.search("part|damaged|state", str(name))]
    with counted() as gradients:
        assert run(places[1], command).out == alone.out
    assert gradients.calls == 0
