"""Preparing one block and measuring it, ours or the plain way, in a process that has done nothing before."""
import ctypes
import gc
import math
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mp import maml
from mp.bench import plain
from mp.bench.blocks import Block
from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.finetune import with_inputs
from mp.learners import METHODS, Learner, make_learner
from mp.learners.deep import layers_of
from mp.learners.prompts import class_prompts, encode_classes, handcrafted_context
from mp.runtime.device import Compute, choose
from mp.runtime.errors import UserError
from mp.settings import MetaSettings, PromptSettings
from mp.tasks import Task, costs, in_parts, kept_steps

try:
    import resource
except ImportError:  # Windows
    raise UserError("bench can't measure memory on this system; give the command on Linux or macOS") from None

VIT_B16 = dict(image_size=224, patch=16, image_width=768, image_layers=12, text_width=512, text_layers=12, embed=512)
WORDS = "cat dog bird tree car house lamp chair boat fish road moon star hand door rain snow fire leaf".split()
SLOW = 10  # seconds; what takes longer the plain way runs only once

Run = Callable[[], list[Tensor]]


class Measured(NamedTuple):
    seconds: float         # of one run, warm; of the only run where the plain way is slow or only the memory matters
    peak: int              # bytes above what the process had before the run
    total: int             # bytes of the whole process; on a GPU, of its memory
    results: list[Tensor]  # on the CPU, in float32


def measure(block: Block, plainly: bool, weights: Path | None, compute: Compute) -> Measured:
    """In a process that has done nothing before."""
    choose(str(compute.device), compute.precision)  # sets this process's switches
    clip = build_clip(block, plainly, weights, compute)
    run = prepare(block, clip, plainly)
    gc.collect()
    before = forget_earlier_peaks(compute.device)
    seconds, results = timed(run, compute.device)
    total = most_memory(compute.device)
    slow = plainly and seconds > SLOW
    if not slow and not block.memory_only:
        repeats = max(1, min(9, int(2 / seconds)))
        seconds = statistics.median(timed(run, compute.device)[0] for _ in range(repeats))
    return Measured(seconds, total - before, total, [t.detach().float().cpu() for t in results])


def timed(run: Run, device: torch.device) -> tuple[float, list[Tensor]]:
    """Seconds until the device has finished, and the results."""
    started = time.monotonic()
    results = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - started, results


def forget_earlier_peaks(device: torch.device) -> int:
    """From here on `most_memory` counts anew. Returns the bytes that are in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError, AttributeError):  # of other systems than Linux, the peak since the process began
            ctypes.CDLL(None).malloc_trim(0)  # else a run that takes again what was freed would seem to need nothing
            Path("/proc/self/clear_refs").write_text("5")
    return most_memory(device)


def most_memory(device: torch.device) -> int:
    """The most bytes that were in use: of the process, or of the GPU's memory by torch."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def build_clip(block: Block, plainly: bool, weights: Path | None, compute: Compute) -> CLIP:
    """Random weights of ViT-B/16's shape, or those of a file. Raises UserError for a file that isn't CLIP's weights."""
    kind, memory = CLIP, compute.memory
    if plainly:
        kind = plain.PublishedCLIP if block.what == "fine-tuning" else plain.PlainCLIP
        memory = sys.maxsize  # everything at once
    if weights is not None:
        return load(weights, compute.device, compute.half, memory, kind)
    with torch.device("meta"):
        clip = kind(**VIT_B16)
    # Filled in place, so that no copy counts as a peak.
    clip.to_empty(device=compute.device).eval().requires_grad_(False)
    generator = torch.Generator(compute.device).manual_seed(0)
    for name, p in clip.named_parameters():
        if ".ln_" in name or name.startswith("ln_") or name.endswith("bias"):
            p.fill_(float(name.endswith("weight")))
        else:
            p.normal_(0, 0.03, generator=generator)
    clip.logit_scale.fill_(math.log(100))
    clip.half_type, clip.memory = compute.half, memory
    return clip


def prepare(block: Block, clip: CLIP, plainly: bool) -> Run:
    """The function to measure; what comes before a training loop is done here.

    Raises KeyError for a method that isn't in METHODS.
    """
    rng, generator = random.Random(0), torch.Generator().manual_seed(1)
    names = [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(block.classes)]
    if block.what == "text gradient":
        return text_gradient(clip, names, generator)
    settings = PromptSettings(block.method, **METHODS[block.method].prompt)
    learner = make_learner(block.method, clip, min(settings.depth, layers_of(clip)), settings.length, generator)
    if block.what == "fine-tuning":
        return fine_tuning(block, clip, learner, names, generator, plainly)
    parts = [draw_part(block, clip, learner, generator) for _ in range(block.steps + 1)]
    if block.what == "evaluation":
        inputs = parts[0][0]
        return evaluation(clip, learner, names, inputs[: block.plain_images] if plainly else inputs)
    return gradient(block, clip, learner, names, parts, plainly)


def draw_part(block: Block, clip: CLIP, learner: Learner, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A batch in one part: what the learner needs of B random images, and labels [B]."""
    device = clip.logit_scale.device
    B, E, size = block.images, clip.text_projection.shape[1], clip.visual.image_size
    if learner.sees_images:
        inputs = learner.inputs(clip, torch.randn(B, 3, size, size, generator=generator).to(device))
    else:  # features [B, E] are enough
        inputs = (F.normalize(torch.randn(B, E, generator=generator), dim=-1).to(device),)
    labels = torch.randint(block.classes, (B,), generator=generator).to(device)
    return *inputs, labels


def text_gradient(clip: CLIP, names: list[str], generator: torch.Generator) -> Run:
    """Of the text features in a random direction, for context vectors [4, W] that all classes share."""
    prompts = class_prompts(clip, names)
    context = handcrafted_context(clip).requires_grad_()
    direction = torch.randn(len(names), clip.text_projection.shape[1], generator=generator).to(context.device)

    def run() -> list[Tensor]:
        prefix = torch.cat([prompts.sos, context])[None]                     # [1, 5, W]
        features = encode_classes(clip, prompts, prefix)[0]                  # [C, E]
        return list(torch.autograd.grad((features * direction).sum(), context))
    return run


def evaluation(clip: CLIP, learner: Learner, names: list[str], inputs: Tensor) -> Run:
    prompts = class_prompts(clip, names)

    @torch.no_grad()
    def run() -> list[Tensor]:
        return [learner.classifier(clip, prompts)(inputs)]                   # [B, C]
    return run


def fine_tuning(block: Block, clip: CLIP, learner: Learner, names: list[str], generator: torch.Generator,
                plainly: bool) -> Run:
    """Of as many steps as the views take, with the method's batches: the gradients, added up. The methods' own code
    sends every step's views through the tower by themselves."""
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


def gradient(block: Block, clip: CLIP, learner: Learner, names: list[str], parts: list[tuple[Tensor, ...]],
             plainly: bool) -> Run:
    """Of the last batch's loss, after an inner step on each of the others, for all parameters; ours as meta-training
    takes it, in parts and with graphs as the memory allows."""
    classes = learner.prepare(clip, names)
    params = {k: p.detach() for k, p in learner.named_parameters()}
    inner_lr = METHODS[block.method].meta["inner_lr"]
    task = Task("", **costs(learner, clip, classes))
    rows = in_parts(np.arange(block.images), task.at_once)
    batches = [[(tuple(t[some] for t in part), weight) for some, weight in rows] for part in parts]
    settings = MetaSettings(block.method, inner_lr=inner_lr, batch=block.images, inner_steps=max(1, block.steps))
    kept = 0 if block.anew else kept_steps(task, settings)

    def loss(p: maml.Params, part: tuple[Tensor, ...]) -> Tensor:
        return maml.run(learner, p, clip, classes, *part)

    def run() -> list[Tensor]:
        for _ in range(block.tasks):
            if plainly:
                grad = plain.meta_gradient(loss, params, parts[:-1], parts[-1], inner_lr)
            else:
                _, grad = maml.meta_gradient(loss, params, batches[:-1], batches[-1], maml.sgd(inner_lr), kept=kept)
        return list(grad.values())
    return run
