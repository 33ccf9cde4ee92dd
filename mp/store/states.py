"""States of runs that were interrupted: what a loop (mp/meta.py, mp/finetune.py) yielded after an epoch."""
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mp.runtime import tensors
from mp.runtime.errors import UserError
from mp.store.identity import Identity, require_same, stored

Log = list[dict[str, Any]]  # a line per epoch


def save(path: Path, kind: str, identity: Identity, state: NamedTuple, log: Log) -> None:
    """`state` has `epoch`, the number of epochs done, tensors by name, and `numbers`, which belong to the log."""
    content = as_dicts(state._replace(numbers={}))
    tensors.write(path, {"identity": stored(kind, identity), "state": content, "log": log})


def resume(path: Path, kind: str, identity: Identity, fresh: NamedTuple, epochs: int,
           line: dict[str, Any]) -> tuple[dict[str, Any], Log]:
    """The state in `path`, as `placed_like` takes it, and the log; `fresh` and no log without a file.

    `line`: a line of the log, for its form. Raises UserError if the state was made otherwise, or is damaged.
    """
    if not path.exists():
        return as_dicts(fresh), []
    file = tensors.read(path, "delete it, and the same command starts from the beginning")
    require_same(path, file.get("identity"), kind, identity)
    log = file.get("log")
    done = len(log) if isinstance(log, list) else 0
    like = {"identity": stored(kind, identity), "state": as_dicts(fresh), "log": [line] * done}
    wrong = tensors.mismatch(file, like, "the state")
    if not wrong and not (0 < done == file["state"]["epoch"] <= epochs):
        wrong = "its number of epochs"
    if wrong:
        raise UserError(f"{path}: damaged ({wrong}); delete it, and the same command starts from the beginning")
    return file["state"], log


def as_dicts(value: Any) -> Any:
    """NamedTuples, also inner ones, as dicts: what files hold."""
    if hasattr(value, "_asdict"):
        return {name: as_dicts(inner) for name, inner in value._asdict().items()}
    return value


def placed_like(value: Any, like: Any) -> Any:
    """What `as_dicts` made of a state, as a state again; tensors on the devices and in the order of `like`'s."""
    if hasattr(like, "_asdict"):
        return type(like)(**{name: placed_like(value[name], inner) for name, inner in like._asdict().items()})
    if isinstance(like, dict):
        return {name: placed_like(value[name], inner) for name, inner in like.items()}
    return value.to(like.device) if isinstance(like, Tensor) else value
