"""Ctrl-C and SIGTERM."""
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

KEEP_NOTHING = ("data", "predict", "show")


def end_when_interrupted() -> None:
    """Both end this process, and those it started, at once, with code 130.

    Files are whole at every moment. An exception that comes just anywhere isn't: libraries swallow it, or crash of it.
    """
    def end(*_) -> None:
        try:
            for child in multiprocessing.active_children():
                child.kill()
            end_line = b"\n" if sys.stderr.isatty() else b""  # of a progress line
            if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
                os.write(2, end_line + f"run.py: interrupted; {advice(sys.argv[1:])}\n".encode())
        finally:
            os._exit(130)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for jobs in the background
            signal.signal(number, end)


@contextmanager
def not_now() -> Iterator[None]:
    """A signal that comes meanwhile acts afterwards. For the start of a process, which isn't among the children yet and
    would complain that its parent is gone."""
    came, before = [], {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def advice(arguments: list[str]) -> str:
    if arguments[:1] and arguments[0] in KEEP_NOTHING:
        return "nothing is kept"
    if "--force" in arguments:  # which starts anew
        return "give the same command without --force to go on from what it kept"
    return "give the same command again to go on from what it kept"
