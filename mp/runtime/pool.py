"""Processes that share a list of jobs; unlike torchrun's, they know nothing of each other."""
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

from mp.runtime.errors import RunError, UserError, reason
from mp.runtime.interrupt import not_now

Run = Callable[[Callable, Iterable], Iterator[tuple[Any, Any]]]  # a function and jobs -> (job, result), as they come


@contextmanager
def open_pool(count: int, log: Path, **variables: str) -> Iterator[Run]:
    """Have jobs done in `count` processes with these environment variables; what they say goes to the log.

    Raises RunError if one is killed, UserError if there can be no log.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        open(log, "a").close()  # here, where somebody hears of it
    except OSError as e:
        raise UserError(f"{log}: can't be written ({reason(e)}); delete it, or choose another --out") from None
    before = dict(os.environ)
    # Python's helper that tidies up after an interruption would complain about it.
    os.environ.update({"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore:resource_tracker"} | variables)
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=begin, initargs=(log,))

    def run(function: Callable, jobs: Iterable) -> Iterator[tuple[Any, Any]]:
        with not_now():
            waiting = {pool.submit(function, job): job for job in jobs}
        return ((waiting[future], future.result()) for future in as_completed(waiting))

    try:
        yield run
    except BrokenProcessPool:
        raise RunError("a process was killed, perhaps for lack of memory; the same command goes on, try a smaller "
                       "--jobs") from None
    except BaseException:
        for child in active_children():  # an error, or Ctrl-C, needn't wait for hours; their states are kept
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        os.environ.clear()
        os.environ.update(before)


def begin(log: Path) -> None:
    """Let this process speak into the log, and end when its parent does, however that is killed."""
    def follow() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    sys.stderr = open(log, "a", buffering=1, encoding="utf-8", errors="backslashreplace")
