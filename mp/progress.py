"""A progress line with an ETA on stderr: rewritten in place on a terminal, now and then in a log file."""
import sys
import time

from mp.distributed import first_process


class Progress:
    """`patience`: nothing is shown of what takes less than so many seconds.

    `first`: steps that were done before this run; None if the first update is to tell.
    """

    def __init__(self, label: str, patience: float = 0, first: int | None = 0):
        self.label, self.patience, self.started, self.shown, self.first = label, patience, time.monotonic(), 0.0, first

    def update(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total` steps are finished. Of several processes the first one speaks."""
        if not first_process():
            return
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if self.first is None:
            self.first = done - 1
        if now - self.shown < (0.2 if terminal else 10) and done < total or now - self.started < self.patience:
            return
        self.shown = now
        left = (now - self.started) / max(1, done - self.first) * (total - done)
        timing = f"ETA {clock(left)}" if done < total else f"took {clock(now - self.started)}"
        line = f"{self.label} {done}/{total}  {text}  {timing}"
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
