"""The building blocks that `run.py bench` measures, each once ours and once the plain way, in a process of its own."""
import gc
import math
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mp import maml
from mp.bench import plain
from mp.clip.model import CLIP, load
from mp.learners.cocoop import CoCoOp
from mp.learners.coop import CoOp
from mp.runtime.device import Compute
from mp.learners.promptsrc import PromptSRC
from mp.learners.prompts import encode_classes

VIT_B16 = dict(image_size=224, patch=16, image_width=768, image_layers=12, text_width=512, text_layers=12, embed=512)
WORDS = "cat dog bird tree car house lamp chair boat fish road moon star hand door rain snow fire leaf".split()
INNER_LR, STEPS = 0.025 / 6, 4


class Block(NamedTuple):
    what: str          # text gradient, step, meta-gradient or evaluation
    method: str
    classes: int
    images: int        # of a batch
    plain_images: int | None = None  # evaluated the plain way, where all would take too long; None: the same
    plain: bool = True  # whether the plain way is measured
    warm: bool = True   # whether the time is of a second run; where only the memory matters, one will do
    steps: int = STEPS
    tasks: int = 1

    @property
    def title(self) -> str:
        method = {"coop": "CoOp", "cocoop": "CoCoOp", "promptsrc": "PromptSRC"}[self.method]
        if self.what == "text gradient":
            return f"text gradient, {self.classes:,} classes"
        sizes = [(self.classes, "class"), (self.images, "image")] + [(self.steps, "step")] * (self.what == "meta-gradient")
        sizes += [(self.tasks, "task")] * (self.tasks > 1)
        plural = {"class": "es"}
        return ", ".join([f"{method} {self.what}", *(f"{n:,} {word}{plural.get(word, 's') * (n > 1)}" for n, word in sizes)])


BLOCKS = [
    Block("text gradient", "coop", 100, 0),
    Block("step", "coop", 100, 32), Block("step", "cocoop", 100, 1), Block("step", "promptsrc", 100, 4),
    Block("meta-gradient", "coop", 100, 32, plain=False), Block("meta-gradient", "coop", 50, 32),
    Block("meta-gradient", "cocoop", 20, 2), Block("meta-gradient", "promptsrc", 20, 2),
    Block("evaluation", "cocoop", 100, 100, plain_images=4),
    Block("step", "coop", 1000, 32, plain=False),
    *(Block("meta-gradient", method, 20, 2, plain=False, warm=False, steps=steps) for method in ("coop", "cocoop", "promptsrc")
      for steps in (1, 16)),
    Block("meta-gradient", "cocoop", 20, 2, plain=False, warm=False, tasks=6),
]


class Measured(NamedTuple):
    seconds: float         # of one run, warm; of the first run where the plain way's takes long, or the block isn't `warm`
    peak: int              # bytes above the weights
    total: int             # bytes of the whole process; on a GPU, of its memory
    operations: float      # floating-point
    results: list[Tensor]


def measure(block: Block, plainly: bool, weights: Path | None, compute: Compute) -> Measured:
    """Run the block here, in a process that has done nothing before it."""
    clip = build_clip(plainly, weights, compute)
    run = prepare(block, clip, plainly)
    gc.collect()
    before = memory(compute.device)
    with Operations() as counted:
        seconds, results = timed(run, compute.device)
    total = memory(compute.device)
    if not (plainly and seconds > 10) and block.warm:
        repeats = [timed(run, compute.device)[0] for _ in range(max(1, min(9, int(2 / seconds))))]
        seconds = sorted(repeats)[len(repeats) // 2]
    return Measured(seconds, total - before, total, counted.number, [t.detach().float().cpu() for t in results])


class Operations(TorchDispatchMode):
    """Counts floating-point operations of matrix products and convolutions, by torch's own formulas."""
    number = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if formula := flop_registry.get(function._overloadpacket):
            self.number += formula(*args, **kwargs or {}, out_val=result)
        return result


def timed(run: Callable[[], list[Tensor]], device: torch.device) -> tuple[float, list[Tensor]]:
    started = time.monotonic()
    results = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - started, results


def memory(device: torch.device) -> int:
    """The most bytes that were in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def build_clip(plainly: bool, weights: Path | None, compute: Compute) -> CLIP:
    """Random weights of ViT-B/16's shape, or those of a file."""
    kind, budget = (plain.PlainCLIP, sys.maxsize) if plainly else (CLIP, compute.memory)  # the plain way has no parts
    if weights is not None:
        return load(weights, compute.device, compute.half, budget, kind)
    with torch.device("meta"):
        clip = kind(**VIT_B16)
    clip.to_empty(device=compute.device).eval().requires_grad_(False)  # filled in place, so that no copy counts as a peak
    generator = torch.Generator(compute.device).manual_seed(0)
    for name, p in clip.named_parameters():
        if ".ln_" in name or name.startswith("ln_") or name.endswith("bias"):
            p.fill_(float(name.endswith("weight")))
        else:
            p.normal_(0, 0.03, generator=generator)
    clip.logit_scale.fill_(math.log(100))
    clip.half_type, clip.memory = compute.half, budget
    return clip


def prepare(block: Block, clip: CLIP, plainly: bool) -> Callable[[], list[Tensor]]:
    """The function to measure; what happens before a training loop is done here."""
    generator, device, names = torch.Generator().manual_seed(1), clip.logit_scale.device, class_names(block.classes)
    if block.method == "promptsrc":
        depth = min(9, *(len(t.resblocks) for t in (clip.transformer, clip.visual.transformer)))
        learner = PromptSRC(clip, depth, generator=generator).to(device)
    else:
        learner = CoOp(clip) if block.method == "coop" else CoCoOp(clip, generator).to(device)
    classes = learner.prepare(clip, names)
    embed = clip.text_projection.shape[1]
    if block.what == "text gradient":
        direction = torch.randn(block.classes, embed, generator=generator).to(device)

        def text_gradient() -> list[Tensor]:
            prefix = torch.cat([classes.sos, learner.ctx])[None]
            return list(torch.autograd.grad((encode_classes(clip, classes, prefix)[0] * direction).sum(), learner.ctx))
        return text_gradient

    def draw() -> tuple[Tensor, ...]:
        features = torch.nn.functional.normalize(torch.randn(block.images, embed, generator=generator), dim=-1).to(device)
        size = clip.visual.image_size
        images = torch.randn(block.images, 3, size, size, generator=generator).to(device) if learner.sees_images else None
        labels = torch.randint(block.classes, (block.images,), generator=generator).to(device)
        return (images, features, labels) if learner.sees_images else (features, labels)

    batches = [draw() for _ in range(block.steps + 1)] if block.what == "meta-gradient" else [draw()]
    params = {k: p.detach() for k, p in learner.named_parameters()}
    if block.what == "evaluation":
        features = batches[0][0][: block.plain_images if plainly else None]
        return torch.no_grad()(lambda: [learner.classifier(clip, classes)(features)])

    def loss(p: maml.Params, batch: tuple[Tensor, ...]) -> Tensor:
        return maml.run(learner, p, clip, classes, *batch)

    whole = [[(batch, 1.0)] for batch in batches]
    if block.what == "step":
        return lambda: list(maml.value_and_grad(loss, maml.leaves(params), whole[0])[1].values())
    gradient = plain.meta_gradient if plainly else lambda *args: maml.meta_gradient(*args)[1]
    return lambda: [list(gradient(loss, params, whole[:-1], whole[-1], INNER_LR).values())
                    for _ in range(block.tasks)][-1]


def class_names(classes: int) -> list[str]:
    """Of one to five tokens."""
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(classes)]


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations a second of matrix products in float32 (on CUDA as --precision has it), at best."""
    best = 0.0
    for rows, inner, columns in ((1024, 1024, 1024), (512, 512, 2048), (2048, 2048, 2048)):
        a, b = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
        runs = [timed(lambda: [a @ b for _ in range(10)], device)[0] for _ in range(5)]
        best = max(best, 10 * 2 * rows * inner * columns / min(runs))
    return best
