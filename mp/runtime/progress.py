"""A progress line with an ETA on stderr: rewritten in place on a terminal, now and then in a log file."""
import sys
import time
from functools import cache

from mp.runtime.errors import printable
from mp.runtime.processes import first_process


class Progress:
    """A line for one loop. `patience`: nothing is shown of what takes less than so many seconds."""

    def __init__(self, label: str, patience: float = 0):
        self.label, self.patience = label, patience
        self.new = 0.0  # steps that this run did
        self.started, self.shown = time.monotonic(), 0.0

    def update(self, done: int, total: int, text: str = "", new: float | None = None) -> None:
        """Show that `done` of `total` steps are finished, in the first of several processes.

        `new`: how many of those since the last update this run did; without it, all of `done`.
        """
        if not first_process():
            return
        now, terminal = time.monotonic(), sys.stderr.isatty()
        self.new = done if new is None else self.new + new
        pause = 0.2 if terminal else 10
        shown_lately = done < total and now - self.shown < pause
        if shown_lately or now - self.started < self.patience:
            return
        self.shown = now
        line = f"{self.label} {done}/{total}  {text}  {self.timing(done, total, now - self.started)}".rstrip()
        end = "\n" if done == total or not terminal else ""
        print(wipe() + printable(line), end=end, file=sys.stderr, flush=True)

    def timing(self, done: int, total: int, seconds: float) -> str:
        """Return the time that the loop took; before its end the time that is left, if it can be told."""
        if done >= total:
            return f"took {clock(seconds)}"
        if not self.new:  # what an earlier run did says nothing about the time a step takes
            return ""
        return f"ETA {clock(seconds / self.new * (total - done))}"


def clock(seconds: float) -> str:
    """Return a time such as 1:02:03, or 2:03 under an hour."""
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


def wipe() -> str:
    """Return what takes a terminal to the line's beginning and wipes it; "" elsewhere."""
    return "\r\033[K" if sys.stderr.isatty() else ""


def say(text: str) -> None:
    """Print a line on stderr, in place of a progress line that stands there, from the first process alone."""
    if first_process():
        print(wipe() + printable(text), file=sys.stderr, flush=True)


@cache
def say_once(text: str) -> None:
    """Print a line once in this process; a session (mp/experiment/session.py) has its own memory of what it said."""
    say(text)
