"""Results: one small file for one prompt on one dataset and seed, computed once and never mixed with others."""
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from mp.runtime import files
from mp.runtime.errors import DAMAGE, RunError, UserError, reason
from mp.runtime.progress import say

FORMAT = 2  # of a result file; changes when what it holds does
PARTS = ("base", "new", "all")


def cell(path: Path, made_from: dict, made_by: dict, compute: Callable[[], dict], force: bool = False) -> dict:
    """The result in `path`; computed, if it isn't there or `force` is given, by `compute`, whose dict has "accuracies".

    A second process that wants the same result waits for the first. A damaged file is set aside and computed again.
    Raises UserError naming what differs if the file was made from something else.
    """
    made_from = {"format": FORMAT} | made_from
    kept = None if force else read(path, say_so=False)
    if kept is None:
        with files.locked(path.with_name(f".{path.stem}.lock")):
            kept = None if force else read(path, aside=True)
            if kept is None:
                started = time.monotonic()
                found = compute()
                found["accuracies"] = with_harmonic_mean(found["accuracies"])
                seconds = round(time.monotonic() - started, 1)
                kept = found | {"made_from": made_from, "made_by": made_by | {"seconds": seconds}}
                files.write_json(path, kept)
    files.require_same(path, kept["made_from"], made_from)
    return kept


def read(path: Path, aside: bool = False, say_so: bool = True) -> dict | None:
    """A result file; None if there is none, or if it is damaged: then it is set `aside` where that is asked for."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        found = result["accuracies"]
        if (found and found.keys() <= {*PARTS, "harmonic_mean"} and isinstance(result["made_from"], dict)
                and isinstance(result["made_by"], dict)
                and all(type(value) in (int, float) and 0 <= value <= 100 for value in found.values())):
            return result
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise UserError(f"{path}: not readable ({reason(e)}); it is needed or in the way: mend or move it") from None
    except (*DAMAGE, AttributeError):
        pass
    if say_so:
        say(f"{path}: damaged; " + (f"set aside as {path.stem}.damaged and computed again" if aside else "left out"))
    if aside:
        os.replace(path, path.with_suffix(".damaged"))
    return None


def with_harmonic_mean(accuracies: dict[str, float]) -> dict[str, float]:
    """Adds H = 2 / (1/base + 1/new), if there are both.

    >>> with_harmonic_mean({"base": 60.0, "new": 30.0})["harmonic_mean"]
    40.0
    """
    if any(not math.isfinite(value) for value in accuracies.values()):
        raise RunError(f"accuracies {accuracies}: not finite, so nothing is kept; give the command again")
    if not {"base", "new"} <= accuracies.keys():
        return accuracies
    base, new = accuracies["base"], accuracies["new"]
    return accuracies | {"harmonic_mean": 2 * base * new / (base + new) if base + new else 0.0}
