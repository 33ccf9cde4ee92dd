"""A progress line with an ETA on stderr: rewritten in place on a terminal, now and then in a log file."""
import sys
import time
from functools import cache

from mp.runtime.processes import first_process


class Progress:
    """One line for one loop. `patience`: nothing is shown of what takes less than so many seconds."""

    def __init__(self, label: str, patience: float = 0):
        self.label, self.patience = label, patience
        self.new = 0.0  # steps that this run did
        self.started, self.shown = time.monotonic(), 0.0

    def update(self, done: int, total: int, text: str = "", new: float | None = None) -> None:
        """`done` of `total` steps are finished; `new`: of those since the last update, how many this run did, or all.

        Of several processes the first one speaks.
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
        print(wipe() + line, end=end, file=sys.stderr, flush=True)

    def timing(self, done: int, total: int, seconds: float) -> str:
        if done >= total:
            return f"took {clock(seconds)}"
        if not self.new:  # what an earlier run did says nothing about the time a step takes
            return ""
        return f"ETA {clock(seconds / self.new * (total - done))}"


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 under an hour."""
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


def wipe() -> str:
    """On a terminal: to the line's beginning, and wipe it."""
    return "\r\033[K" if sys.stderr.isatty() else ""


def say(text: str) -> None:
    """A line on stderr, in place of a progress line that stands there, from the first process alone."""
    if first_process():
        print(wipe() + text, file=sys.stderr, flush=True)


@cache
def say_once(text: str) -> None:
    """Of this process; a session (mp/experiment/session.py) says its own things once."""
    say(text)
