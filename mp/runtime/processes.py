"""Several processes, started by torchrun: each takes a share of the work, and the first one writes the files.

torch is imported where it is needed, so that who asks for a process's number alone needn't wait for it.
"""
import atexit
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TypeVar

from mp.runtime.errors import RunError, UserError

Found = TypeVar("Found")
PATIENCE = timedelta(days=7)  # torch gives up after 10 or 30 minutes; a process that died is noticed without this
LOOK_AGAIN = 0.1  # seconds
AT_ONCE = 1  # second; nothing is said of waiting that is shorter


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
    rank, world = processes()
    if world == 1 or dist.is_initialized():
        return

    def meet_all() -> None:
        backend = "nccl" if device.type == "cuda" else "gloo"
        own = dist.PrefixStore("group", messages())
        dist.init_process_group(backend, timeout=PATIENCE, store=own, rank=rank, world_size=world)

    place = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
    try:
        listening(meet_all, f"waiting for {world - 1} more of {world} processes at {place} (MASTER_ADDR:MASTER_PORT): "
                            f"RANK {rank} and WORLD_SIZE {world} in the environment say so; unset these to run alone")
    except (ValueError, RuntimeError) as e:
        raise UserError(f"the other processes can't be met ({str(e).splitlines()[0][:120]}); start this with torchrun, "
                        "or unset RANK and WORLD_SIZE") from None
    atexit.register(dist.destroy_process_group)


@cache
def messages() -> "torch.distributed.Store":
    """Return the place where processes leave messages for each other, on the CPU."""
    import torch.distributed as dist
    store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
    return store


def listening(wait: Callable[[], None], text: str = "") -> None:
    """Call `wait` in another thread, as no signal is heard within torch's waiting. The text says what is waited for,
    unless it comes at once."""
    errors = []

    def work() -> None:
        try:
            wait()
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(AT_ONCE)
    if text and thread.is_alive():
        print(text, file=sys.stderr, flush=True)
    thread.join()
    if errors:
        raise errors[0]


def total(tensors: "list[torch.Tensor]") -> "list[torch.Tensor]":
    """The sums over all processes, the same bits in each. Raises RunError if another one is gone."""
    import torch
    import torch.distributed as dist
    if processes()[1] == 1:
        return tensors
    flat = torch.cat([t.reshape(-1) for t in tensors])  # one message for all
    with gone_is_an_error():
        work = dist.all_reduce(flat, async_op=True)
        work.wait() if flat.is_cuda else listening(work.wait)  # on a GPU it only keeps the order
    sums = flat.split([t.numel() for t in tensors])
    return [one.view_as(t) for one, t in zip(sums, tensors)]


def agree(find: Callable[[], Found]) -> Found:
    """What the first process finds, in all of them: its disk decides. It finds tensors, which come on the CPU, numbers,
    strings, and lists, tuples and dicts of them.

    The others may wait for hours, as it may be kept waiting by another run's lock: they look now and then for its
    message, which no time-out ends. Raises RunError if it is gone.
    """
    import torch
    rank, world = processes()
    if world == 1:
        return find()
    packed = io.BytesIO()
    if rank == 0:
        torch.save(find(), packed)
    with gone_is_an_error():
        number = messages().add(f"calls of {rank}", 1)
        if rank == 0:
            messages().set(f"found {number}", packed.getvalue())
        while not messages().check([f"found {number}"]):
            time.sleep(LOOK_AGAIN)
        found = messages().get(f"found {number}")
    return torch.load(io.BytesIO(found), map_location="cpu", weights_only=True)


def meet() -> None:
    """Returns once every process has come here. Raises RunError if one is gone."""
    rank, world = processes()
    if world == 1:
        return
    with gone_is_an_error():
        number = messages().add(f"meetings of {rank}", 1)
        arrived = messages().add(f"meeting {number}", 1)
        while arrived < world:
            time.sleep(LOOK_AGAIN)
            arrived = messages().add(f"meeting {number}", 0)


@contextmanager
def gone_is_an_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        raise RunError("another process of this run is gone; give the same command again") from None
