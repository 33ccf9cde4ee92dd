"""Meta-training: Algorithm 1 over the training tasks, epoch after epoch, resumable."""
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mp import files, maml
from mp.clip import CLIP
from mp.errors import RunError, UserError


@dataclass(frozen=True)
class MetaSettings:
    """The paper's section 4.2, in its terms."""
    method: str
    epochs: int = 200
    inner_steps: int = 4
    inner_lr: float = 0.025 / 6  # α
    meta_lr: float = 0.001       # β
    clip_norm: float = 5.0       # γ
    shots: int = 16              # N
    support: int = 5             # K
    batch: int = 32              # of an inner step
    query_batch: int = -1        # -1: as `batch`; 0: the whole query set
    first_order: bool = False
    sum_tasks: bool = False      # Σ over tasks, as Algorithm 1 prints, instead of the text's average
    depth: int = 9               # of PromptSRC's prompts
    length: int = 4
    seed: int = 1

    def __post_init__(self):
        if self.shots < self.support + 1:
            raise UserError(f"--shots {self.shots} leaves no query image beside --support {self.support}; "
                            f"it must be at least {self.support + 1}")
        for name, least in (("epochs", 1), ("inner_steps", 0), ("support", 1), ("batch", 1), ("query_batch", -1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least {least}")
        for name in ("inner_lr", "meta_lr", "clip_norm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be a positive number")


PAPER = {  # what differs between the methods, section 4.2
    "coop": dict(inner_lr=0.025 / 6, batch=32),
    "cocoop": dict(inner_lr=0.025 / 6, batch=8),
    "promptsrc": dict(inner_lr=0.02 / 6, batch=32),
}


class Task(NamedTuple):
    """One training dataset as a learner sees it: N images a class."""
    name: str
    classes: tuple
    inputs: tuple[Tensor, ...]  # each [n, ...]
    labels: Tensor              # [n]


def divide(labels: np.ndarray, support: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Line 4: indices of K support images of every class, and of the others, the query images.

    A class of K images or fewer keeps one for the query set.
    """
    parts = []
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        k = min(support, max(1, len(order) - 1))
        parts.append((order[:k], order[k:]))
    return tuple(np.concatenate(p) for p in zip(*parts))


def mini_batches(indices: np.ndarray, size: int, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`count` batches of the shuffled indices, reshuffled when too few are left for another."""
    size, left, batches = min(size, len(indices)), np.empty(0, int), []
    for _ in range(count):
        if len(left) < size:
            left = rng.permutation(indices)
        batches.append(left[:size])
        left = left[size:]
    return batches


def draw_batches(task: Task, settings: MetaSettings, epoch: int, number: int) -> tuple[list, list]:
    """The support batches and weighted query batches of one task in one epoch.

    They depend on (seed, epoch, task) alone, so a resumed run and one shared out over processes draw the same.
    """
    rng = np.random.default_rng([settings.seed, epoch, number])
    support, query = divide(task.labels.numpy(), settings.support, rng)
    inner = mini_batches(support, settings.batch, settings.inner_steps, rng)
    if settings.query_batch == 0:
        outer = [query[i : i + settings.batch] for i in range(0, len(query), settings.batch)]
    else:
        size = settings.batch if settings.query_batch < 0 else settings.query_batch
        outer = mini_batches(query, size, 1, rng)
    total = sum(map(len, outer))
    return inner, [(indices, len(indices) / total) for indices in outer]


def meta_train(learner: nn.Module, clip: CLIP, tasks: list[Task], settings: MetaSettings, folder: Path,
               report: Callable[[dict, int], None]) -> maml.Params:
    """Algorithm 1. Returns the meta-prompt p.

    Writes state.pt after every epoch and goes on from it; log.jsonl gets a line per epoch, which also
    goes to `report` with the number of epochs. Raises RunError if a loss or gradient isn't finite,
    leaving the last good state.
    """
    device = clip.logit_scale.device
    params = {k: p.detach().clone() for k, p in learner.named_parameters()}  # line 1
    params, adam_state, log = resume(folder, settings, params)

    for epoch in range(len(log), settings.epochs):                            # line 2
        started = time.monotonic()
        G = {k: torch.zeros_like(p) for k, p in params.items()}
        losses = {}
        for number, task in enumerate(tasks):                                 # line 3
            def loss(p: maml.Params, indices: np.ndarray) -> Tensor:
                inputs, labels = ([t[indices].to(device) for t in ts] for ts in (task.inputs, [task.labels]))
                return maml.run(learner, p, clip, task.classes, *inputs, *labels)

            support, query = draw_batches(task, settings, epoch, number)      # line 4
            losses[task.name], grad = maml.meta_gradient(                     # lines 5 to 9
                loss, params, support, query, settings.inner_lr, settings.first_order)
            weight = 1.0 if settings.sum_tasks else 1 / len(tasks)
            G = {k: G[k] + weight * grad[k] for k in G}
        params, adam_state, norm = maml.meta_update(                          # line 10
            params, G, adam_state, settings.meta_lr, settings.clip_norm)

        log.append(summary(epoch, losses, norm, settings, time.monotonic() - started))
        save(folder, settings, params, adam_state, log)
        report(log[-1], settings.epochs)
    return params


def summary(epoch: int, losses: dict[str, Tensor], norm: Tensor, settings: MetaSettings, seconds: float) -> dict:
    """One line of the log. Raises RunError naming the epoch, task and step of the first loss that isn't finite."""
    values = dict(zip(losses, torch.stack(list(losses.values())).tolist()))  # the epoch's one wait for the device
    for task, steps in values.items():
        for step, value in enumerate(steps):
            if not np.isfinite(value):
                where = f"inner step {step + 1}" if step < settings.inner_steps else "the query loss"
                raise RunError(f"epoch {epoch + 1}, task {task}, {where}: the loss is {value}; the state of the last "
                               "good epoch is kept. Try a smaller --inner-lr or --meta-lr")
    norm = float(norm)
    if not np.isfinite(norm):
        raise RunError(f"epoch {epoch + 1}: the meta-gradient isn't finite; the state of the last good epoch is kept")
    query = {task: steps[-1] for task, steps in values.items()}
    return {"epoch": epoch + 1, "query_loss": sum(query.values()) / len(query), "grad_norm": norm,
            "clipped_norm": min(norm, settings.clip_norm), "tasks": query, "seconds": round(seconds, 3)}


def save(folder: Path, settings: MetaSettings, params: maml.Params, adam_state: maml.AdamState, log: list[dict]) -> None:
    """The state first: the log is written again from it, so a kill between the two loses nothing."""
    files.write_tensors(folder / "state.pt", {
        "settings": asdict(settings), "params": params, "adam": list(adam_state), "log": log})
    files.write_whole(folder / "log.jsonl",
                      lambda part: part.write_text("".join(json.dumps(line) + "\n" for line in log)))


def resume(folder: Path, settings: MetaSettings, params: maml.Params) -> tuple[maml.Params, maml.AdamState, list[dict]]:
    """Parameters, Adam's state and the log as an interrupted run left them, or those of a fresh start."""
    path = folder / "state.pt"
    if not path.exists():
        return params, maml.adam_start(params), []
    state = files.read_tensors(path)
    if state.get("settings") != asdict(settings):
        raise UserError(f"{path}: from a run with other settings; --force starts anew")
    def here(tensors: maml.Params) -> maml.Params:
        return {k: v.to(params[k].device) for k, v in tensors.items()}

    step, mean, square = state["adam"]
    return here(state["params"]), maml.AdamState(step, here(mean), here(square)), state["log"]
