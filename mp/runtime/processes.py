"""Several processes, started by torchrun: each takes a share of the work, and the first one writes the files.

torch is imported where it is needed, so that who asks for a process's number alone needn't wait for it.
"""
import atexit
import os
from datetime import timedelta

from mp.runtime.errors import RunError, UserError


def processes() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun says; 0 and 1 without it."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise UserError(f"RANK {rank!r} and WORLD_SIZE {world!r} in the environment aren't torchrun's; unset both, or "
                        "start this with torchrun")
    return int(rank), int(world)


def first_process() -> bool:
    return processes()[0] == 0


def join(device: "torch.device") -> None:
    """Meet the other processes, if there are any; a second call does nothing."""
    import torch.distributed as dist
    if processes()[1] == 1 or dist.is_initialized():
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        # One process may wait for long while another works, or is itself kept waiting by the lock of another run. torch
        # would give up after 10 or 30 minutes. A process that died is noticed without this.
        dist.init_process_group(backend, timeout=timedelta(days=7))
    except (ValueError, RuntimeError) as e:
        raise UserError(f"the other processes can't be met ({str(e).splitlines()[0][:120]}); start this with torchrun, "
                        "or unset RANK and WORLD_SIZE") from None
    atexit.register(dist.destroy_process_group)


def total(tensors: "list[torch.Tensor]") -> "list[torch.Tensor]":
    """The sums over all processes, the same bits in each. Raises RunError if another one is gone."""
    import torch
    import torch.distributed as dist
    if not dist.is_initialized():
        return tensors
    flat = torch.cat([t.reshape(-1) for t in tensors])  # one message for all
    try:
        dist.all_reduce(flat)
    except RuntimeError:
        raise RunError("another process of this run is gone; give the same command again") from None
    sums = flat.split([t.numel() for t in tensors])
    return [one.view_as(t) for one, t in zip(sums, tensors)]


def agree(value):
    """The first process's `value`, in all: what it found on its disk decides. Raises RunError if one is gone."""
    import torch.distributed as dist
    if not dist.is_initialized():
        return value
    box = [value]
    try:
        dist.broadcast_object_list(box)
    except RuntimeError:
        raise RunError("another process of this run is gone; give the same command again") from None
    return box[0]
