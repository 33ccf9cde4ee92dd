"""A progress line with an ETA on stderr: rewritten in place on a terminal, now and then in a log file."""
import sys
import time

from mp.runtime.processes import first_process


class Progress:
    """`patience`: nothing is shown of what takes less than so many seconds. `first`: steps done before this run."""

    def __init__(self, label: str, patience: float = 0, first: int = 0):
        self.label, self.patience, self.started, self.shown, self.first = label, patience, time.monotonic(), 0.0, first
        self.new = 0

    def update(self, done: int, total: int, text: str = "", new: int | None = None) -> None:
        """`done` of `total` steps are finished; `new`: of those since the last update, how many this run did, if not all.

        Of several processes the first one speaks.
        """
        if not first_process():
            return
        now, terminal = time.monotonic(), sys.stderr.isatty()
        self.new = done - self.first if new is None else self.new + new
        if now - self.shown < (0.2 if terminal else 10) and done < total or now - self.started < self.patience:
            return
        self.shown = now
        timing = f"took {clock(now - self.started)}"
        if done < total:  # what an earlier run did says nothing about the time a step takes
            timing = f"ETA {clock((now - self.started) / self.new * (total - done))}" if self.new else ""
        line = f"{self.label} {done}/{total}  {text}  {timing}".rstrip()
        end = "\n" if done == total or not terminal else ""
        print(("\r\033[K" if terminal else "") + line, end=end, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 under an hour."""
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


def say(text: str) -> None:
    if first_process():
        print(text, file=sys.stderr, flush=True)
