"""States of runs that were interrupted: what a loop yielded after its last epoch, and what it depends on."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from mp.runtime import tensors
from mp.runtime.errors import UserError
from mp.store.identity import Identity, require_same, stored


def write(path: Path, kind: str, identity: Identity, state: dict[str, Any]) -> None:
    """`state`: epoch, the number of epochs done, and whatever else a run needs to go on."""
    tensors.write(path, {"identity": stored(kind, identity), **state})


def read(path: Path, kind: str, identity: Identity, epochs: int, like: Callable[[int], dict[str, Any]]) -> dict | None:
    """The state in `path`; None if there is none. `like`: epochs done -> values of the types and shapes that must be there.

    Raises UserError if it was made from something else, or is damaged.
    """
    if not path.exists():
        return None
    state = tensors.read(path)
    require_same(path, state.get("identity"), kind, identity)
    epoch = state.get("epoch")
    if type(epoch) is not int or not 0 < epoch <= epochs:
        wrong = "its number of epochs"
    else:
        wrong = tensors.mismatch(state, {"identity": stored(kind, identity), "epoch": epoch, **like(epoch)}, "the state")
    if wrong:
        raise UserError(f"{path}: damaged ({wrong}); delete it, and the same command starts from the beginning")
    return state


def on_device(values: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors where those of `like` are, and in their order."""
    return {name: values[name].to(tensor.device) for name, tensor in like.items()}
