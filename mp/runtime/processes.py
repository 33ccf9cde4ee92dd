"""Several processes, started by torchrun: each takes a share of the work, and the first one writes the files."""
import atexit
import os

import torch
import torch.distributed as dist
from torch import Tensor

from mp.runtime.errors import RunError, UserError


def processes() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun says; 0 and 1 without it."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise UserError(f"RANK {rank!r} and WORLD_SIZE {world!r} in the environment aren't torchrun's; unset both, or start "
                        "this with torchrun")
    return int(rank), int(world)


def first_process() -> bool:
    return processes()[0] == 0


def join(device: torch.device) -> None:
    """Meet the other processes, if there are any; a second call does nothing."""
    if processes()[1] > 1 and not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (ValueError, RuntimeError) as e:
            raise UserError(f"the other processes can't be met ({str(e).splitlines()[0][:120]}); start this with torchrun, "
                            "or unset RANK and WORLD_SIZE") from None
        atexit.register(dist.destroy_process_group)


def total(tensors: list[Tensor]) -> list[Tensor]:
    """The sums over all processes, the same bits in each. Raises RunError if another one is gone."""
    if not dist.is_initialized():
        return tensors
    flat = torch.cat([t.reshape(-1) for t in tensors])
    try:
        dist.all_reduce(flat)
    except RuntimeError:
        raise RunError("another process of this run is gone; "
                       "the same command goes on from the last good epoch") from None
    return [part.view_as(t) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors)]


def agree(value):
    """The first process's `value`, in all of them: what it found on its disk decides."""
    if not dist.is_initialized():
        return value
    box = [value]
    try:
        dist.broadcast_object_list(box)
    except RuntimeError:
        raise RunError("another process of this run is gone; give the same command again") from None
    return box[0]
