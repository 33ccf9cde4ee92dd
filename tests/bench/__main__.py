"""Speed and memory of every building block on this machine, beside the plain way:  python -m tests.bench

Each is measured in a fresh process, and its row printed when it is there. Nothing else is kept."""
import argparse
import re
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from mp.clip.weights import read_state, sizes
from mp.runtime.device import Compute, choose
from mp.runtime.errors import RunError, UserError, short_of_memory
from mp.runtime.pool import open_pool
from mp.runtime.progress import say
from mp.store.provenance import commit
from tests.bench.blocks import BLOCKS, Block
from tests.bench.measure import Measured, measure
from tests.rehearsal import VIT_B16, random_state

GIB = 2**30
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}  # malloc frees tensors at once: the peak is of those alive
HEAD = ["ours: s", "GiB", "plain: s", "GiB", "faster", "less memory", "difference"]
WIDTHS = [9, 14, 10, 8, 8, 13, 12]
NOTES = """
Time of one run, warm; of the only run where a plain way takes over 10 s. The rows with 1 or 16 steps, or 6 tasks, are
about memory: there, freed tensors go back to the system at once, which takes time. GiB: peak above what was there
before, in brackets with that; empty where the system can't tell it. Difference: the largest of the results, by their
largest. At most {memory:g} GiB are kept for a gradient (--memory). Of the plain CoCoOp evaluation a few images are
measured, and the time is scaled up. Class names have 1 to 5 tokens. Of fine-tuning, plain is the way of the methods'
own code: all 77 positions, fused attention, and images through the tower with every step."""


def main(arguments: list[str]) -> None:
    """Print the table. Raises UserError for weights, blocks or a device that don't exist, RunError for a killed
    process."""
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--weights", type=Path, help="CLIP's weights (default: random, of ViT-B/16's shape)")
    parser.add_argument("--blocks", nargs="+", metavar="WORD", default=[""],
                        help="only blocks with a word that begins so in their titles, such as 'text' or 'CoCoOp'")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, fp32, tf32, bf16 or fp16")
    parser.add_argument("--memory", type=float, metavar="GIB", help="what one pass may keep for its gradient")
    args = parser.parse_args(arguments)
    compute = choose(args.device, args.precision, args.memory)
    blocks = [block for block in BLOCKS if any(is_asked_for(block, word) for word in args.blocks)]
    for word in args.blocks:
        if not any(is_asked_for(block, word) for block in blocks):
            raise UserError(f"--blocks {word}: no such block; there are {'; '.join(block.title for block in BLOCKS)}")
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights or Path(folder) / "random weights"
        if not args.weights:
            torch.save(random_state(VIT_B16), weights)
        print(heading(compute, weights))
        width = max(len(block.title) for block in blocks)
        print(line(["", *HEAD], width), flush=True)
        for block in blocks:
            ways = (False, True) if block.plain else (False,)
            measured = [measure_alone(block, plainly, weights, compute, Path(folder)) for plainly in ways]
            print(line(row(block, *measured), width), flush=True)
    print(NOTES.format(memory=compute.memory / GIB))


def is_asked_for(block: Block, word: str) -> bool:
    """Return whether it stands in the title, from the beginning of a word: CoOp isn't CoCoOp."""
    return bool(re.search(rf"(?<!\w){re.escape(word)}", block.title, re.IGNORECASE))


def heading(compute: Compute, weights: Path) -> str:
    """Return a line about what is measured, and on what."""
    device = f"{torch.get_num_threads()} CPU cores"
    if compute.device.type == "cuda":
        device = torch.cuda.get_device_name(compute.device)
    towers = "{image_layers} and {text_layers} layers, {image_width} and {text_width} wide".format(
        **sizes(read_state(weights), weights))
    about = f"{device}, {compute.precision}, torch {torch.__version__}, {weights.name} ({towers})"
    return f"{about}, commit {commit()[:12]}\n"


def measure_alone(block: Block, plainly: bool, weights: Path, compute: Compute, folder: Path) -> Measured:
    """Measure in a fresh process. Raises RunError if that is killed or lacks memory."""
    title = f"{block.title}, the plain way" if plainly else block.title
    say(title)
    variables = GIVE_BACK if block.memory_only else {}
    try:
        with open_pool(1, folder / "log", OMP_NUM_THREADS=str(torch.get_num_threads()), **variables) as run:
            (_, measured), = run(partial(measure, weights=weights, compute=compute), [(block, plainly)])
    except (RunError, RuntimeError, MemoryError) as e:
        if not isinstance(e, RunError) and not short_of_memory(e):
            raise
        raise RunError(f"{title}: not enough memory, or the process was killed; try a smaller --memory, or --blocks "
                       "without it") from None
    return measured


def row(block: Block, ours: Measured, plain: Measured | None = None) -> list[str]:
    """Return the title and the cells below HEAD; those of a plain way that wasn't measured are empty."""
    ours_gib = "" if ours.peak is None else f"{ours.peak / GIB:.3f} ({ours.total / GIB:.1f})"
    cells = [block.title, f"{ours.seconds:.2f}", ours_gib]
    if plain is None:
        return cells
    seconds, gib, less_memory = plain.seconds, "", ""
    if plain.peak is not None:
        gib = f"{plain.peak / GIB:.3f}"
        less_memory = f"{plain.peak / max(1, ours.peak):.1f}×"
    if block.plain_images is not None:
        seconds *= block.images / block.plain_images
        less_memory = ""  # fewer images don't say
    pairs = zip(ours.results, plain.results, strict=True)
    difference = torch.stack([(a[: len(b)] - b).abs().max() / b.abs().max() for a, b in pairs]).max()  # NaN, if any is
    return cells + [f"{seconds:.1f}", gib, f"{seconds / ours.seconds:.1f}×", less_memory, f"{difference:.0e}"]


def line(cells: list[str], width: int) -> str:
    """Return the cells as a line, the first one flush left."""
    rest = [cell.rjust(room) for cell, room in zip(cells[1:], WIDTHS)]
    return (cells[0].ljust(width) + "".join(rest)).rstrip()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (UserError, RunError) as e:
        sys.exit(f"tests.bench: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
