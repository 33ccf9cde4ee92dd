"""Calls run.py in a process forked from this one, which has imported torch already: a call takes milliseconds."""
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
import torch.fx.experimental.symbolic_shapes  # takes a second; torch.autograd.grad's first call imports it

import run as program
from mp.clip import tokenizer
from mp.commands.options import COMMANDS
from mp.learners import METHODS, learner_class

for name in COMMANDS:  # all that a child needs is imported here
    import_module(f"mp.commands.{name}")
for name in METHODS:
    learner_class(name)
tokenizer.encode("a")  # reads its tables here, not in every child
LIMIT = 240  # seconds after which a call is a hang, also where many others are at work


class Ended(NamedTuple):
    code: int  # negative: killed by that signal
    out: str
    err: str

    def messages(self) -> list[str]:
        """Return the lines that the program says of itself."""
        return [line for line in self.err.splitlines() if line.startswith("run.py: ")]


class Call:
    """A run of the program. `before` is called in the child: it drops rights, sets limits, replaces functions.

    Runs in the same folder at the same time have different numbers.
    """

    def __init__(self, args: list, cwd: Path, before: Callable[[], None] = lambda: None, number: int = 0,
                 **env: str | None):
        self.files = [cwd.parent / f".{cwd.name}{number}.{name}" for name in ("out", "err")]
        for path in self.files:  # what an earlier call said isn't taken for this one's, even if it is killed at once
            path.write_bytes(b"")
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # else a child's first collection copies all of this process's memory
        self.pid = os.fork()
        if not self.pid:
            code = 70
            try:
                try:
                    code = self.child([str(arg) for arg in args], cwd, before, env)
                except SystemExit as e:
                    code = 1 if isinstance(e.code, str) else e.code or 0
                except BaseException:
                    traceback.print_exc()
                for stream in filter(None, (sys.stdout, sys.stderr)):
                    with suppress(OSError):
                        stream.flush()
            finally:  # whatever a late signal interrupts: a child never goes on as the test
                os._exit(code)

    def child(self, args: list[str], cwd: Path, before: Callable[[], None], env: dict[str, str | None]) -> int:
        for number, path in zip((1, 2), self.files):
            os.dup2(os.open(path, os.O_WRONLY | os.O_TRUNC), number)
        sys.stdout = open(1, "w", encoding="utf-8")
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(LIMIT)
        program.end_when_interrupted()
        torch.set_num_threads(1)  # OpenMP's threads don't survive a fork
        for name, value in env.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        os.chdir(cwd)
        before()
        return program.main(args)

    def wait(self) -> Ended:
        """Return how it ended. Raises AssertionError if it hung, or has printed a traceback."""
        _, status = os.waitpid(self.pid, 0)
        said = [path.read_text(encoding="utf-8", errors="replace") for path in self.files]
        ended = Ended(os.waitstatus_to_exitcode(status), *said)
        assert ended.code != -signal.SIGALRM, f"hangs: {ended.err[-500:]}"
        assert "Traceback" not in ended.err, ended.err[-2000:]
        return ended
