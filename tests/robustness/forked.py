"""Calls run.py in a process forked from this one, which has imported torch already: a call takes milliseconds."""
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch

import run as program
from mp.clip import tokenizer
from mp.commands.options import COMMANDS
from mp.learners import METHODS, learner_class
from tests.robustness.counts import COUNTS

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
                    os.setpgid(0, 0)
                    code = self.child([str(a) for a in args], cwd, before, env)
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
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", errors=e) for n, e in ((1, "strict"), (2, "backslashreplace")))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        program.end_when_interrupted()
        torch.set_num_threads(1)  # OpenMP's threads don't survive a fork
        for name, value in env.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        os.chdir(cwd)
        before()
        return program.main(args)

    def kill(self, how: int = signal.SIGKILL) -> None:
        os.kill(self.pid, how)

    def wait(self, seconds: float = LIMIT) -> Ended:
        """Raises AssertionError if the call is a hang, or has printed a traceback."""
        deadline, pid = time.monotonic() + seconds, 0
        while not pid and time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            time.sleep(0 if pid else 0.002)
        try:
            os.killpg(self.pid, signal.SIGKILL)  # processes that it started and left
        except ProcessLookupError:
            pass
        if not pid:
            os.waitpid(self.pid, 0)
            COUNTS["hangs"] += 1
        ended = Ended(os.waitstatus_to_exitcode(status) if pid else 0,
                      *(path.read_text(encoding="utf-8", errors="replace") for path in self.files))
        COUNTS["tracebacks"] += "Traceback" in ended.err
        assert pid, f"hangs: {ended.err[-500:]}"
        assert "Traceback" not in ended.err, ended.err[-2000:]
        return ended
