"""Preparing one block and measuring it, ours or the plain way, in a process that has done nothing before."""
import ctypes
import gc
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mp import maml
from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.finetune import with_inputs
from mp.learners import METHODS, Learner, make_learner
from mp.learners.deep import layers_of
from mp.learners.prompts import class_prompts, encode_classes, handcrafted_context
from mp.runtime.device import Compute, choose
from mp.settings import MetaSettings, PromptSettings
from mp.tasks import Task, costs, in_parts, kept_graphs
from tests.bench import plain
from tests.bench.blocks import Block

WORDS = "cat dog bird tree car house lamp chair boat fish road moon star hand door rain snow fire leaf".split()
SLOW = 10  # seconds; what takes longer the plain way runs only once
STATUS = Path("/proc/self/status")

Run = Callable[[], list[Tensor]]


class Measured(NamedTuple):
    seconds: float         # of one run, warm; of the only run where the plain way is slow or only the memory matters
    peak: int | None       # bytes above what the process had before the run; None: this system can't tell
    total: int | None      # bytes of the whole process; on a GPU, of its memory
    results: list[Tensor]  # on the CPU, in float32


def measure(job: tuple[Block, bool], weights: Path, compute: Compute) -> Measured:
    """Measure a block, the plain way if the job says so, in a process that has done nothing before."""
    block, plainly = job
    device = choose(str(compute.device), compute.precision).device  # sets this process's switches
    run = prepare(block, load_clip(block, plainly, weights, compute), plainly)
    gc.collect()
    before = forget_earlier_peaks(device)
    seconds, results = timed(run, device)
    total = most_memory(device)
    if not block.memory_only and not (plainly and seconds > SLOW):
        repeats = max(1, min(9, int(2 / seconds)))
        seconds = statistics.median(timed(run, device)[0] for _ in range(repeats))
    peak = None if total is None else total - before
    return Measured(seconds, peak, total, [t.detach().float().cpu() for t in results])


def timed(run: Run, device: torch.device) -> tuple[float, list[Tensor]]:
    """Return the seconds until the device has finished, and the results."""
    started = time.monotonic()
    results = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - started, results


def forget_earlier_peaks(device: torch.device) -> int | None:
    """Let `most_memory` count anew from here on. Return the bytes that are in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif STATUS.exists():
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)  # else a run that takes again what was freed would seem to need nothing
        Path("/proc/self/clear_refs").write_text("5")
    return most_memory(device)


def most_memory(device: torch.device) -> int | None:
    """Return the most bytes that were in use, by the process, or by torch of the GPU's memory; None: can't be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1])
    return None


def load_clip(block: Block, plainly: bool, weights: Path, compute: Compute) -> CLIP:
    """Load the weights into the CLIP that the block is about. Raises UserError if they aren't CLIP's."""
    if not plainly:
        return load(weights, compute.device, compute.half, compute.memory)
    kind = plain.PublishedCLIP if block.what == "fine-tuning" else plain.PlainCLIP
    return load(weights, compute.device, compute.half, sys.maxsize, kind)  # everything at once


def prepare(block: Block, clip: CLIP, plainly: bool) -> Run:
    """Return the function to measure; what comes before a training loop is done here."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(1)
    names = [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(block.classes)]
    if block.method is None:
        return text_gradient(clip, names, generator)
    settings = PromptSettings(block.method, **METHODS[block.method].prompt)
    learner = make_learner(block.method, clip, min(settings.depth, layers_of(clip)), settings.length, generator)
    if block.what == "fine-tuning":
        return fine_tuning(block, clip, learner, names, generator, plainly)
    batches = [draw_batch(block, clip, learner, generator) for _ in range(block.steps + 1)]
    if block.what == "evaluation":
        inputs = batches[0][0][: block.plain_images if plainly else None]
        classes = class_prompts(clip, names)
        return torch.no_grad()(lambda: [learner.classifier(clip, classes)(inputs)])  # [B, C]
    return gradient(block, clip, learner, names, batches, plainly)


def draw_batch(block: Block, clip: CLIP, learner: Learner, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw what the learner needs of B random images, and labels [B]."""
    device = clip.logit_scale.device
    B, E, size = block.images, clip.text_projection.shape[1], clip.visual.image_size
    if learner.sees_images:
        inputs = learner.inputs(clip, torch.randn(B, 3, size, size, generator=generator).to(device))
    else:  # features [B, E] are enough
        inputs = (F.normalize(torch.randn(B, E, generator=generator), dim=-1).to(device),)
    return *inputs, torch.randint(block.classes, (B,), generator=generator).to(device)


def text_gradient(clip: CLIP, names: list[str], generator: torch.Generator) -> Run:
    """Take the gradient of the text features in a random direction for four context vectors that all classes share."""
    classes = class_prompts(clip, names)
    context = handcrafted_context(clip).requires_grad_()
    direction = torch.randn(len(names), clip.text_projection.shape[1], generator=generator).to(context.device)

    def run() -> list[Tensor]:
        features = encode_classes(clip, classes, torch.cat([classes.sos, context])[None])[0]  # [C, E]
        return list(torch.autograd.grad((features * direction).sum(), context))
    return run


def fine_tuning(block: Block, clip: CLIP, learner: Learner, names: list[str], generator: torch.Generator,
                plainly: bool) -> Run:
    """Add up the gradients of as many steps as the views take, with the method's batches. The methods' own code sends
    every step's views through the tower by themselves."""
    device, size = clip.logit_scale.device, clip.visual.image_size
    views = torch.randint(256, (block.images, size, size, 3), dtype=torch.uint8, generator=generator).to(device)
    labels = torch.randint(block.classes, (block.images,), generator=generator).to(device)
    batch = METHODS[block.method].finetune["batch"]
    batches = list(zip(views.split(batch), labels.split(batch)))
    classes = learner.prepare(clip, names)
    params = maml.leaves(dict(learner.named_parameters()))

    def run() -> list[Tensor]:
        if plainly:
            steps = ((learner.inputs(clip, some), targets) for some, targets in batches)
        else:
            steps = with_inputs(learner, clip, batches)
        sums = [torch.zeros_like(p) for p in params.values()]
        for inputs, targets in steps:
            loss = maml.run(learner, params, clip, classes, *inputs, targets)
            sums = [a + b for a, b in zip(sums, torch.autograd.grad(loss, tuple(params.values())))]
        return sums
    return run


def gradient(block: Block, clip: CLIP, learner: Learner, names: list[str], batches: list[tuple[Tensor, ...]],
             plainly: bool) -> Run:
    """Take the gradient of the last batch's loss, after an inner step on each of the others, for all parameters; ours
    as meta-training takes it, in parts and with graphs as the memory allows."""
    classes = learner.prepare(clip, names)
    params = {k: p.detach() for k, p in learner.named_parameters()}
    inner_lr = METHODS[block.method].meta["inner_lr"]
    task = Task("", **costs(learner, clip, classes))
    rows = in_parts(np.arange(block.images), task.at_once)
    in_rows = [[(tuple(t[some] for t in batch), weight) for some, weight in rows] for batch in batches]
    settings = MetaSettings(block.method, inner_lr=inner_lr, batch=block.images, inner_steps=max(1, block.steps))
    kept = 0 if block.anew else kept_graphs(task, settings)

    def loss(p: maml.Params, batch: tuple[Tensor, ...]) -> Tensor:
        return maml.run(learner, p, clip, classes, *batch)

    def run() -> list[Tensor]:
        for _ in range(block.tasks):
            if plainly:
                grad = plain.meta_gradient(loss, params, batches[:-1], batches[-1], inner_lr)
            else:
                _, grad = maml.meta_gradient(loss, params, in_rows[:-1], in_rows[-1], maml.sgd(inner_lr),
                                             kept_graphs=kept)
        return list(grad.values())
    return run
