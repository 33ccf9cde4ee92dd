"""Several processes, started by torchrun: each takes a share of the work, and the first one writes the files.

What is slow to import is imported where it is needed: who asks for a process's number alone needn't wait for it.
"""
import atexit
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from mp.runtime.errors import RunError, UserError

PATIENCE = timedelta(days=7)  # torch gives up after 10 or 30 minutes; a process that died is noticed without this
LOOK_AGAIN = 0.1  # seconds
AT_ONCE = 1  # second; a shorter wait goes unsaid


def processes() -> tuple[int, int]:
    """Return this process's number and how many there are, as torchrun says; 0 and 1 without it.

    Raises UserError if the environment holds something else than torchrun's numbers.
    """
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise UserError(f"RANK {rank!r} and WORLD_SIZE {world!r} in the environment aren't torchrun's; unset both, or "
                        "start this with torchrun")
    return int(rank), int(world)


def first_process() -> bool:
    return processes()[0] == 0


def join(device: "torch.device") -> None:
    """Meet the other processes, if there are any; a second call does nothing. Raises UserError if they can't be met."""
    import torch.distributed as dist
    rank, world = processes()
    if world == 1 or dist.is_initialized():
        return
    backend = "nccl" if device.type == "cuda" else "gloo"

    def meet_all() -> None:
        store = dist.PrefixStore("group", messages())
        dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=world)

    place = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
    text = (f"waiting for {world - 1} more of {world} processes at {place} (MASTER_ADDR:MASTER_PORT): RANK {rank} and "
            f"WORLD_SIZE {world} in the environment say so; unset these to run alone")
    try:
        call_in_thread(meet_all, text)
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


def call_in_thread(wait: Callable[[], None], text: str = "") -> None:
    """Call `wait` in another thread, as this one hears no signal within torch's waiting.

    Unless it comes back at once, the text is printed, which says what is waited for.
    """
    from concurrent import futures
    with futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(wait)
        _, waiting = futures.wait([call], timeout=AT_ONCE)
        if text and waiting:
            print(text, file=sys.stderr, flush=True)
        call.result()


def total(tensors: "list[torch.Tensor]") -> "list[torch.Tensor]":
    """Return the sums over all processes, the same bits in each. Raises RunError if another one is gone."""
    import torch
    import torch.distributed as dist
    if processes()[1] == 1:
        return tensors
    flat = torch.cat([t.reshape(-1) for t in tensors])  # one message for all
    with gone_is_an_error():
        work = dist.all_reduce(flat, async_op=True)
        work.wait() if flat.is_cuda else call_in_thread(work.wait)  # on a GPU it only keeps the order
    sums = flat.split([t.numel() for t in tensors])
    return [flat_sum.view_as(t) for flat_sum, t in zip(sums, tensors)]


def agree(find: Callable[[], Any], speaker: int = 0) -> Any:
    """Return, in all processes, what `find` returns in the first one, or in the `speaker`: its disk decides.

    `find` returns tensors, which come on the CPU, numbers, strings, and lists, tuples and dicts of them. The others may
    wait for hours, as another run's lock may keep the speaker waiting: they look now and then for its message, which
    no time-out ends. Raises RunError if it is gone.
    """
    import torch
    rank, world = processes()
    if world == 1:
        return find()
    packed = io.BytesIO()
    if rank == speaker:
        torch.save(find(), packed)
    with gone_is_an_error():
        call = messages().add(f"calls of {rank}", 1)
        if rank == speaker:
            messages().set(f"answer {call}", packed.getvalue())
        while not messages().check([f"answer {call}"]):
            time.sleep(LOOK_AGAIN)
        answer = messages().get(f"answer {call}")
    return torch.load(io.BytesIO(answer), map_location="cpu", weights_only=True)


def meet() -> None:
    """Return once every process has come here, and each has heard of each. Raises RunError if one is gone."""
    for rank in range(processes()[1]):
        agree(lambda: None, speaker=rank)


@contextmanager
def gone_is_an_error() -> Iterator[None]:
    """Raise RunError for what torch raises where another process has ended."""
    try:
        yield
    except RuntimeError:
        raise RunError("another process of this run is gone; give the same command again") from None
