"""Waiting for processes that don't come: what is said, and that Ctrl-C and SIGTERM end it."""
import os
import signal
import socket
import sys
import time

import pytest
import torch
import torch.distributed

import run
from mp.runtime import processes
from tests.robustness.forked import Call


@pytest.fixture
def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(command, folder, rank, world, port, before=lambda: None):
    """Run a command, or what `before` does, as one of several processes."""
    folder.mkdir(exist_ok=True)
    return Call(command, folder, before, rank, RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port))


def wait_until_it_says(call, text):
    while text not in (said := call.files[1].read_text()):
        time.sleep(0.01)
    return said


@pytest.mark.parametrize("rank, number, command", [(0, signal.SIGINT, ["meta", "--method", "coop"]),
                                                   (2, signal.SIGTERM, ["table", "--run"])])
def test_waiting_for_processes_that_do_not_come(rank, number, command, port, tmp_path):
    call = start([*command, "--out", tmp_path / "runs"], tmp_path / "work", rank, 3, port)
    assert wait_until_it_says(call, "\n") == (
        f"waiting for 2 more of 3 processes at 127.0.0.1:{port} (MASTER_ADDR:MASTER_PORT): RANK {rank} and WORLD_SIZE 3 "
        "in the environment say so; unset these to run alone\n")
    os.kill(call.pid, number)
    ended = call.wait()
    assert ended.code == 130 and ("interrupted" in ended.err) == (rank == 0)


def sum_of_one():
    """Meet the other process as run.py does, then wait for a sum to which it adds nothing."""
    processes.join(torch.device("cpu"))
    print("joined", file=sys.stderr, flush=True)
    if processes.first_process():
        processes.total([torch.ones(3)])
    time.sleep(60)


def test_waiting_for_a_sum(port, tmp_path):
    both = [start([], tmp_path / "work", rank, 2, port, sum_of_one) for rank in (0, 1)]
    for call in both:
        wait_until_it_says(call, "joined\n")
    os.kill(both[0].pid, signal.SIGTERM)
    assert both[0].wait().code == 130
    os.kill(both[1].pid, signal.SIGKILL)
    both[1].wait()


def test_commands_that_are_for_one_process_name_the_variables(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    for command in ("zeroshot", "data", "finetune --method coop", "predict a.png --names a b"):
        assert run.main(command.split()) == 2
        assert ("torchrun is for meta and table; without it, unset RANK (0) and WORLD_SIZE (3) in the environment"
                in capsys.readouterr().err)
