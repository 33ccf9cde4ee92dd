"""End at Ctrl-C and SIGTERM, and say what the same command does next."""
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

KEEP_NOTHING = ("data", "predict", "show")


def end_when_interrupted() -> None:
    """Let both signals end this process, and those that it started, at once, with code 130.

    That is safe, as files are whole at every moment. An exception that comes just anywhere isn't: libraries swallow it,
    or crash.
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

    for number in heeded_signals():
        signal.signal(number, end)


@contextmanager
def not_now() -> Iterator[None]:
    """Let a signal that comes meanwhile act afterwards.

    It is for the start of a process, which isn't among the children yet and would complain that its parent is gone.
    """
    late_signals, handlers = [], {}
    for number in heeded_signals():
        handlers[number] = signal.signal(number, lambda number, _: late_signals.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in late_signals:
            signal.raise_signal(number)


def heeded_signals() -> list[signal.Signals]:
    """Return those of both signals that aren't ignored, as a shell has it for jobs in the background."""
    return [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]


def advice(arguments: list[str]) -> str:
    """Return what to do after an interruption of the command with these arguments."""
    if arguments[:1] and arguments[0] in KEEP_NOTHING:
        return "nothing is kept"
    if "--force" in arguments:  # which starts anew
        return ("give the same command without --force to go on with what was begun anew, and to use the rest as it is "
                "there; or with --force to begin again")
    return "give the same command again to go on from what it kept"
