"""Run Algorithm 1 of the paper: the outer loop over the training tasks. mp/maml.py has what is inside an epoch."""
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mp import maml
from mp.clip.model import CLIP
from mp.learners import Learner
from mp.runtime.errors import RunError
from mp.settings import MetaSettings
from mp.tasks import Indices, Task, draw_batches, kept_graphs


class MetaState(NamedTuple):
    """Say where meta-training stands after an epoch."""
    epoch: int                # epochs done
    params: maml.Params       # the meta-prompt p and, if the inner updates have parameters of their own, these
    adam: maml.AdamState
    numbers: dict[str, Any]   # of this epoch, as `summary` gives them


def start(learner: Learner) -> MetaState:
    """Take line 1: p is the learner's handcrafted start."""
    params = {k: p.detach().clone() for k, p in learner.named_parameters()}
    return MetaState(0, params, maml.adam_start(params), {})


def meta_train(learner: Learner, clip: CLIP, tasks: list[Task], settings: MetaSettings, state: MetaState | None = None,
               make_update: Callable[[float], maml.Update] = maml.sgd,
               sum_shares: Callable[[list[Tensor]], list[Tensor]] = lambda tensors: tensors) -> Iterator[MetaState]:
    """Run Algorithm 1. Yields a state after every epoch; the last one's `params` are the meta-prompt.

    `state`: an earlier one to go on from; the states that follow are the same bits. `make_update`: makes the update of
    line 7 from α; if it learns parameters of its own, `state` holds them, too. `sum_shares`: where several processes
    share the tasks out, it sums tensors over them. Raises RunError naming epoch, task and step of a loss that isn't
    finite, epoch and tensor of a gradient.
    """
    done, params, adam, _ = state or start(learner)                           # line 1
    update = make_update(settings.inner_lr)                                   # α, for adapt and back_through
    prompt_names = [name for name, _ in learner.named_parameters()]
    device = clip.logit_scale.device
    weight = 1.0 if settings.sum_tasks else 1 / len(tasks)                    # of a task's gradient in G
    for epoch in range(done, settings.epochs):                                # line 2
        started = time.monotonic()
        G = {k: torch.zeros_like(v) for k, v in params.items()}
        losses = torch.zeros(len(tasks), settings.inner_steps + 1, device=device)
        for number, task in enumerate(tasks):                                 # line 3
            if not task.inputs:
                continue                                                      # another process computes it
            loss = loss_of(task, learner, clip)
            support, query = draw_batches(task, settings, epoch, number)      # line 4
            losses[number], grad = maml.meta_gradient(                        # lines 5 to 9
                loss, params, support, query, update, loss_names=prompt_names, first_order=settings.first_order,
                kept_graphs=kept_graphs(task, settings))
            G = {k: G[k] + weight * grad[k] for k in G}
        losses, *G_values = sum_shares([losses, *G.values()])
        G = dict(zip(G, G_values))
        params, adam, norm = maml.meta_update(                                # line 10
            params, G, adam, settings.meta_lr, settings.clip_norm)
        where = f"epoch {epoch + 1}"
        check_losses(losses, tasks, where)
        numbers = summary(epoch + 1, tasks, losses, norm, settings)
        zero = check_gradients(params, norms(G), where, "inner_lr or meta_lr")
        numbers["zero_gradients"] = [name for name in zero if name in prompt_names]  # φ's may be, at its start
        numbers["seconds"] = round(time.monotonic() - started, 3)
        yield MetaState(epoch + 1, params, adam, numbers)


def loss_of(task: Task, learner: Learner, clip: CLIP) -> maml.Loss:
    """Return L_T of the paper: the learner's loss on a part of a task's images, as a function of p."""
    device = clip.logit_scale.device

    def loss(p: maml.Params, part: Indices) -> Tensor:
        inputs_and_labels = []
        for tensor in (*task.inputs, task.labels):
            tensor = tensor[part]
            if device.type == "cuda":
                tensor = tensor.pin_memory()  # so that the copy to the GPU doesn't hold up the program
            inputs_and_labels.append(tensor.to(device, non_blocking=True))
        return maml.run(learner, p, clip, task.classes, *inputs_and_labels)

    return loss


def check_losses(losses: Tensor, tasks: list[Task], where: str) -> None:
    """Raise RunError for the first of the losses [tasks, inner steps + 1], the query loss last, that isn't finite."""
    for task, steps in zip(tasks, losses.tolist()):
        for step, value in enumerate(steps, 1):
            if not math.isfinite(value):
                of_what = "the query loss" if step == len(steps) else f"inner step {step}"
                raise RunError(f"{where}, task {task.name}, {of_what}: the loss is {value}; try a smaller inner_lr or "
                               "meta_lr")


def check_gradients(params: maml.Params, gradient_norms: Tensor, where: str, rate: str) -> list[str]:
    """Return the names of the tensors whose gradient is exactly zero: they learn nothing. `gradient_norms`: one
    for each of `params`. Raises RunError for the first tensor that isn't finite, or whose gradient isn't."""
    sizes = torch.stack((gradient_norms, norms(params)), 1).tolist()
    zero = []
    for name, (gradient, value) in zip(params, sizes):
        if not (math.isfinite(gradient) and math.isfinite(value)):
            raise RunError(f"{where}: {name} or its gradient isn't finite; try a smaller {rate}")
        if gradient == 0:
            zero.append(name)
    return zero


def norms(tensors: maml.Params) -> Tensor:
    """Return the norm of each tensor [number of tensors]."""
    return torch.stack([t.detach().norm() for t in tensors.values()])


def summary(epoch: int, tasks: list[Task], losses: Tensor, norm: Tensor, settings: MetaSettings) -> dict[str, Any]:
    """Return an epoch's numbers: the mean query loss, that of every task, and ‖G‖ before and after clipping."""
    query_losses = losses[:, -1].tolist()
    norm = float(norm)
    return {"epoch": epoch, "query_loss": sum(query_losses) / len(tasks), "grad_norm": norm,
            "clipped_norm": min(norm, settings.clip_norm),
            "tasks": {task.name: loss for task, loss in zip(tasks, query_losses)}}
