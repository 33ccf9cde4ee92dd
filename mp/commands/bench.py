"""run.py bench: speed and memory of every building block on this machine, beside the plain way, and what follows."""
import multiprocessing
import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch

from mp.bench import blocks, estimate
from mp.bench.blocks import BLOCKS, Block, Measured, measure
from mp.clip.model import CLIP
from mp.runtime.device import choose
from mp.runtime.errors import RunError, UserError
from mp.runtime.progress import Progress, say
from mp.learners.prompts import HANDCRAFTED, tokenize_names
from mp.store.provenance import provenance
from mp.tasks import SECOND_ORDER
from mp.clip.weights import read_state, sizes

GIB = 2**30


def command(args: Namespace) -> None:
    """Measure, each time in a fresh process, and print. Raises UserError for weights or blocks that don't exist."""
    compute = choose(args.device, args.precision, args.memory)
    chosen = [b for b in BLOCKS if any(word.lower() in b.title.lower() for word in args.blocks)]
    if not chosen:
        raise UserError(f"--blocks {' '.join(args.blocks)}: no such block; there are {'; '.join(b.title for b in BLOCKS)}")
    shape = sizes(read_state(args.weights), args.weights) if args.weights else blocks.VIT_B16
    rate = alone(blocks.matrix_rate, compute.device)
    runs = [(block, plainly) for block in chosen for plainly in (False, True) if block.plain or not plainly]
    found: dict[tuple[Block, bool], Measured] = {}
    progress = Progress("measuring", first=0)
    for number, (block, plainly) in enumerate(runs, 1):
        say(f"{block.title}{', the plain way' if plainly else ''}")
        # Where the memory is the point, malloc gives freed tensors back at once: the peak is of what was alive.
        with environment(**{} if block.warm else {"MALLOC_MMAP_THRESHOLD_": str(2**16)}):
            found[block, plainly] = alone(measure, block, plainly, args.weights, compute)
        progress.update(number, len(runs))
    about = provenance(str(compute.device))
    device = torch.cuda.get_device_name(compute.device) if compute.device.type == "cuda" else \
        f"{torch.get_num_threads()} CPU cores"
    towers = "{image_layers} and {text_layers} layers, {image_width} and {text_width} wide".format(**shape)
    print(f"{device}, {compute.precision}, torch {about['torch']}, {args.weights or 'random weights'} ({towers}), commit "
          f"{about['commit'][:12]}\nmatrix products: {rate / 1e9:,.0f} GFLOP/s\n")
    print(aligned([HEAD, *(row(block, found, rate) for block in chosen)]))
    lengths = tokenize_names(f"{HANDCRAFTED} {{}}.", blocks.class_names(100)).argmax(-1).double() - 4  # own tokens
    print(NOTES.format(memory=compute.memory / GIB, padded=1 - float(lengths.mean() / lengths.max())))
    if len(chosen) == len(BLOCKS):
        print(table2(shape, compute.memory, found))


HEAD = ["", "ours: s", "GiB", "plain: s", "GiB", "faster", "less memory", "difference", "GFLOP", "of matrix rate"]
NOTES = """
Time of one run, warm; of the only run where a plain way takes over 10 s. The rows from the first with 1 step on are about
memory: there, freed tensors go back to the system at once, which takes time. GiB: peak above the weights, in brackets with
all else in the process. Difference: the largest of the results, by their largest. At most {memory:g} GiB are kept for a
gradient (--memory). Of the plain CoCoOp evaluation a few images are measured, and the time is scaled up. Class names have 1 to
5 tokens; {padded:.0%} of the classes' own positions in attention are padding, and none elsewhere.
"""


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Environment variables for processes that start meanwhile."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def alone(function: Callable, *args):
    """The function's result, computed in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *args).result()
        except BrokenProcessPool:
            raise RunError("bench: the measuring process was killed, perhaps for lack of memory; choose --blocks without "
                           "the last one named above") from None
        except (RuntimeError, MemoryError) as e:
            raise RunError(f"bench: {str(e).splitlines()[0][:200]}; try a smaller --memory, or --blocks without it") from None


def row(block: Block, found: dict[tuple[Block, bool], Measured], rate: float) -> list[str]:
    ours = found[block, False]
    share = ours.operations / ours.seconds / rate
    memory = f"{ours.peak / GIB:.3f} ({ours.total / GIB:.1f})"
    cells = [block.title, f"{ours.seconds:.2f}", memory, "", "", "", "", ""]
    if plain := found.get((block, True)):
        times = block.images / block.plain_images if block.plain_images else 1
        pairs = [(a[: len(b)], b) for a, b in zip(ours.results, plain.results)]
        difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
        less = "" if block.plain_images else f"{plain.peak / max(1, ours.peak):.1f}×"
        cells[3:] = [f"{times * plain.seconds:.1f}", f"{plain.peak / GIB:.3f}", f"{times * plain.seconds / ours.seconds:.1f}×",
                     less, f"{difference:.0e}"]
    return [*cells, f"{ours.operations / 1e9:,.0f}", f"{100 * share:.0f}%"]


def table2(shape: dict[str, int], memory: int, found: dict[tuple[Block, bool], Measured]) -> str:
    """Hours and memory of each column, from the blocks that were measured."""
    with torch.device("meta"):
        clip = CLIP(**shape)
    clip.memory = memory
    ours = {block: m for (block, plainly), m in found.items() if not plainly and block.steps == blocks.STEPS}
    fastest = {(block.what, block.method): m for block, m in sorted(ours.items(), key=lambda item: item[0].classes)
               if block.classes <= 100}
    kept = {}
    for block, m in ours.items():
        if block.what == "meta-gradient" and block.tasks == 1 and block.images in (2, 32):
            text = (block.images if block.method == "cocoop" else 1) * (estimate.NAME * block.classes + estimate.PREFIX)
            image = block.images * len(clip.visual.positional_embedding) if block.method == "promptsrc" else 0
            predicted = text * clip.kept_bytes(clip.transformer) + image * clip.kept_bytes(clip.visual.transformer)
            kept[block.method] = m.peak / (SECOND_ORDER * predicted)
    rows = [["column of Table 2, paper's settings, one seed", "hours", "GiB"], *estimate.estimate(clip, fastest, kept)]
    return "Estimates from these numbers, without reading images:\n" + aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]).rstrip()
                     for line in rows)
