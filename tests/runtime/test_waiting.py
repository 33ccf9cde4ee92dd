"""Waiting for processes that don't come: what is said, and that Ctrl-C and SIGTERM end it."""
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Meets the others as run.py does, and then waits for a sum to which they add nothing.
SUM = """
import sys, torch
from mp.runtime import processes
from mp.runtime.interrupt import end_when_interrupted
end_when_interrupted()
processes.join(torch.device("cpu"))
print("joined", file=sys.stderr, flush=True)
if processes.first_process():
    processes.total([torch.ones(3)])
sys.stdin.read()
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(rank, port, *command):
    variables = dict(RANK=str(rank), WORLD_SIZE="3" if command[0] == "run.py" else "2", MASTER_ADDR="127.0.0.1",
                     MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=os.environ | variables, stderr=subprocess.PIPE,
                            stdin=subprocess.PIPE, text=True)


@pytest.mark.parametrize("rank, number, command", [
    (0, signal.SIGINT, "meta --method coop"), (0, signal.SIGTERM, "table --run"), (2, signal.SIGTERM, "meta --method coop"),
    (2, signal.SIGINT, "table --run")])
def test_waiting_for_processes_that_do_not_come(rank, number, command, tmp_path):
    port = free_port()
    process = start(rank, port, "run.py", *command.split(), "--out", str(tmp_path))
    said = process.stderr.readline()
    assert said == (f"waiting for 2 more of 3 processes at 127.0.0.1:{port} (MASTER_ADDR:MASTER_PORT): RANK {rank} and "
                    "WORLD_SIZE 3 in the environment say so; unset these to run alone\n")
    process.send_signal(number)
    _, rest = process.communicate(timeout=20)
    assert process.returncode == 130 and ("interrupted" in rest) == (rank == 0)


def test_waiting_for_a_sum(tmp_path):
    port = free_port()
    both = [start(rank, port, "-c", SUM) for rank in (0, 1)]
    try:
        for process in both:
            while (line := process.stderr.readline()) != "joined\n":
                assert line.startswith("waiting for 1 more of 2 processes"), line
        both[0].send_signal(signal.SIGTERM)
        assert both[0].wait(20) == 130
    finally:
        for process in both:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("command", ["zeroshot", "data", "finetune --method coop", "predict a.png --names a b"])
def test_commands_that_are_for_one_process_name_the_variables(command):
    process = start(0, 1, "run.py", *command.split())
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "torchrun is for meta and table; without it, unset RANK (0) and WORLD_SIZE (3) in the environment" in said
