"""run.py bench: speed and memory of every building block on this machine, beside the plain way."""
import re
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch

from mp.bench.blocks import BLOCKS, Block
from mp.bench.measure import VIT_B16, Measured, measure
from mp.clip.weights import read_state, sizes
from mp.runtime.device import Compute, choose
from mp.runtime.errors import RunError, UserError, short_of_memory
from mp.runtime.interrupt import not_now
from mp.runtime.pool import environment
from mp.runtime.progress import Progress, say
from mp.report.text import line_up
from mp.store.provenance import provenance

GIB = 2**30
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}  # malloc frees tensors at once: the peak is of those alive
HEAD = ["", "ours: s", "GiB", "plain: s", "GiB", "faster", "less memory", "difference"]
ROOM = ["999.99", "99.999 (99.9)", "999.9", "99.999", "99.9×", "99.9×", "1e-06"]  # for what will stand below it
NOTES = """
Time of one run, warm; of the only run where a plain way takes over 10 s. The rows with 1 or 16 steps, or 6 tasks, are
about memory: there, freed tensors go back to the system at once, which takes time. GiB: peak above what was there
before, in brackets with that. Difference: the largest of the results, by their largest. At most {memory:g} GiB are
kept for a gradient (--memory). Of the plain CoCoOp evaluation a few images are measured, and the time is scaled up.
Class names have 1 to 5 tokens. Of fine-tuning, plain is the way of the methods' own code: all 77 positions, fused
attention, and images through the tower with every step."""


def command(args: Namespace) -> None:
    """Measure, each in a fresh process, and print each row when it is there. Raises UserError for weights or blocks
    that don't exist."""
    compute = choose(args.device, args.precision, args.memory)
    chosen = [block for block in BLOCKS if is_asked_for(block, args.blocks)]
    for word in args.blocks:
        if not any(is_asked_for(block, [word]) for block in BLOCKS):
            titles = "; ".join(block.title for block in BLOCKS)
            raise UserError(f"--blocks {word}: no such block; there are {titles}")
    shape = sizes(read_state(args.weights), args.weights) if args.weights else VIT_B16
    head = [HEAD, [max((block.title for block in chosen), key=len), *ROOM]]
    done, total = 0, len(chosen) + sum(block.plain for block in chosen)
    progress = Progress("measuring")
    print(heading(compute, args.weights or "random weights", shape))
    print(line_up(head).splitlines()[0], flush=True)
    for block in chosen:
        measured = []
        for plainly in (False, True) if block.plain else (False,):
            say(f"{block.title}, the plain way" if plainly else block.title)
            variables = GIVE_BACK if block.memory_only else {}
            measured.append(alone(measure, block, plainly, args.weights, compute, **variables))
            done += 1
            progress.update(done, total)
        print(line_up([*head, row(block, *measured)]).splitlines()[-1], flush=True)
    print(NOTES.format(memory=compute.memory / GIB))


def is_asked_for(block: Block, words: list[str]) -> bool:
    """Whether one of them stands in its title, from the beginning of a word: CoOp isn't CoCoOp."""
    return any(re.search(rf"(?<!\w){re.escape(word)}", block.title, re.IGNORECASE) for word in words)


def heading(compute: Compute, weights: Path | str, shape: dict[str, int]) -> str:
    """What the numbers were measured on and of."""
    device = f"{torch.get_num_threads()} CPU cores"
    if compute.device.type == "cuda":
        device = torch.cuda.get_device_name(compute.device)
    about = provenance(str(compute.device))
    towers = "{image_layers} and {text_layers} layers, {image_width} and {text_width} wide".format(**shape)
    commit, changed, _ = about["commit"].partition("+")
    commit = f"{commit[:12]} with changes" if changed else commit[:12]
    return f"{device}, {compute.precision}, torch {about['torch']}, {weights} ({towers}), commit {commit}\n"


def alone(function: Callable, *args, **variables: str):
    """The function's result, computed in a process of its own with these environment variables.

    Raises RunError if that process is killed or lacks memory.
    """
    variables["PYTHONWARNINGS"] = "ignore:resource_tracker"  # else it would complain after an interruption
    try:
        with environment(**variables), ProcessPoolExecutor(1, get_context("spawn")) as pool:
            with not_now():
                future = pool.submit(function, *args)
            return future.result()
    except BrokenProcessPool:
        raise RunError("bench: the measuring process was killed, perhaps for lack of memory; choose --blocks without "
                       "the last one named above") from None
    except (RuntimeError, MemoryError) as e:
        if not short_of_memory(e):
            raise
        why = (str(e) or "not enough memory").splitlines()[0][:200]  # a MemoryError may say nothing
        raise RunError(f"bench: {why}; try a smaller --memory, or --blocks without it") from None


def row(block: Block, ours: Measured, plain: Measured | None = None) -> list[str]:
    """The cells below HEAD; those of a plain way that wasn't measured are empty."""
    cells = [block.title, f"{ours.seconds:.2f}", f"{ours.peak / GIB:.3f} ({ours.total / GIB:.1f})"]
    if plain is None:
        return cells + [""] * (len(HEAD) - len(cells))
    seconds = plain.seconds
    less_memory = f"{plain.peak / max(1, ours.peak):.1f}×"
    if block.plain_images is not None:
        seconds *= block.images / block.plain_images
        less_memory = ""  # fewer images don't say
    faster = f"{seconds / ours.seconds:.1f}×"
    pairs = zip(ours.results, plain.results, strict=True)
    difference = torch.stack([(a[: len(b)] - b).abs().max() / b.abs().max() for a, b in pairs]).max()  # NaN, if any is
    return cells + [f"{seconds:.1f}", f"{plain.peak / GIB:.3f}", faster, less_memory, f"{difference:.0e}"]
