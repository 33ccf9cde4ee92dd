"""States of runs that were interrupted: what a loop (mp/meta.py, mp/finetune.py) yielded after an epoch.

A state belongs to the prompt that it leads to, and lies beside it. As rounding differs, there is one of each device and
precision.
"""
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mp.runtime import torchfile
from mp.store.cells import set_aside

Log = list[dict[str, Any]]  # a line per epoch


def save(path: Path, identity: dict[str, Any], state: NamedTuple, log: Log) -> None:
    """Write a `state`, which has `epoch` (how many are done), tensors by name, and `numbers`, which the log holds."""
    torchfile.write(path, {"identity": identity, "state": as_dicts(state._replace(numbers={})), "log": log})


def resume(path: Path, identity: dict[str, Any], fresh: NamedTuple, epochs: int,
           line: dict[str, Any]) -> tuple[dict[str, Any], Log]:
    """Return the state in `path`, as `placed_like` takes it, and the log; `fresh` and no log without a file.

    `line`: a line of the log, for its form. A damaged file, or one that isn't of this identity, is set aside.
    """
    start = as_dicts(fresh), []
    if not path.exists():
        return start
    try:
        content = torchfile.load(path)
        log = content["log"]
        like = {"identity": identity, "state": as_dicts(fresh), "log": [line] * len(log)}
        if torchfile.mismatch(content, like) or content["identity"] != identity:
            raise ValueError("of something else")
        if not len(log) == content["state"]["epoch"] <= epochs:
            raise ValueError("another number of epochs")
    except (ValueError, TypeError, LookupError):
        set_aside(path)
        return start
    return (content["state"], log) if log else start


def as_dicts(value: Any) -> Any:
    """Return NamedTuples, also inner ones, as dicts, which files hold."""
    if hasattr(value, "_asdict"):
        return {name: as_dicts(inner) for name, inner in value._asdict().items()}
    return value


def placed_like(value: Any, like: Any) -> Any:
    """Return a state again from what `as_dicts` made of it; tensors on the devices and in the order of `like`'s."""
    if hasattr(like, "_asdict"):
        return type(like)(**{name: placed_like(value[name], inner) for name, inner in like._asdict().items()})
    if isinstance(like, dict):
        return {name: placed_like(value[name], inner) for name, inner in like.items()}
    return value.to(like.device) if isinstance(like, Tensor) else value
