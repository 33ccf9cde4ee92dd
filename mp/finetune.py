"""Fine-tune a learner by the recipe that all methods share, with PromptSRC's average over epochs (GPA)."""
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mp.clip.model import CLIP
from mp.learners import METHODS, Learner
from mp.maml import Params, gradient, leaves, run
from mp.meta import check_gradients, norms
from mp.runtime.errors import RunError, UserError
from mp.settings import FinetuneSettings

IMAGES_AT_ONCE = 64  # that go through the frozen tower together
Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # epoch -> (images [B, size, size, 3], labels [B])


class FinetuneState(NamedTuple):
    """Say where fine-tuning stands after an epoch."""
    epoch: int                # epochs done
    params: Params
    momentum: Params          # of SGD
    average: Params           # of the epochs so far, weighted, for a learner that averages them; else empty
    numbers: dict[str, Any]   # of this epoch: epoch, lr, loss (the mean), losses (of its steps), zero_gradients

    @property
    def prompt(self) -> Params:
        """Return the tensors to use, after the last epoch."""
        return self.average or self.params  # empty: this method doesn't average


def start(learner: Learner, settings: FinetuneSettings) -> FinetuneState:
    """Return the state before the first epoch, with the learner's own values."""
    params = {k: p.detach().clone() for k, p in learner.named_parameters()}
    zeros = {k: torch.zeros_like(p) for k, p in params.items()}
    average = zeros if METHODS[settings.method].averages_epochs else {}
    return FinetuneState(0, params, zeros, average, {})


def finetune(learner: Learner, clip: CLIP, classes: Any, batches: Batches, settings: FinetuneSettings,
             state: FinetuneState | None = None,
             direction: Callable[[Params], Params] = lambda grads: grads) -> Iterator[FinetuneState]:
    """Train a learner's parameters on the classes it prepared. Yields a state after every epoch; `prompt` of the last
    one is the result.

    `state`: an earlier one to go on from; the states that follow are the same bits. `direction`: from gradients to the
    directions that weight decay and momentum act on, by default the gradients themselves. Raises RunError naming epoch
    and step if a loss isn't finite, and UserError if the settings' average over epochs has no weight.
    """
    done, params, momentum, average, _ = state or start(learner, settings)
    weights = gaussian_weights(settings.epochs, settings.gpa_mean, settings.gpa_std) if average else []
    for epoch in range(done, settings.epochs):
        lr = learning_rate(epoch, settings.epochs, settings.lr)
        losses, gradient_norms = [], []
        for inputs, labels in with_inputs(learner, clip, batches(epoch)):
            params = leaves(params)
            loss = run(learner, params, clip, classes, *inputs, labels)
            grads = gradient(loss, params)
            gradient_norms.append(norms(grads))
            params, momentum = momentum_step(params, direction(grads), momentum, lr, settings)
            losses.append(loss.detach())
        numbers = summary(epoch + 1, lr, torch.stack(losses).tolist())  # the epoch's one wait for the device
        largest = torch.stack(gradient_norms).amax(0)
        numbers["zero_gradients"] = check_gradients(params, largest, f"epoch {epoch + 1}", "lr")
        average = {k: mean + weights[epoch] * params[k] for k, mean in average.items()}
        yield FinetuneState(epoch + 1, params, momentum, average, numbers)


def with_inputs(learner: Learner, clip: CLIP,
                batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Yield the batches as the learner takes them. Frozen features are computed for many small batches at once."""
    if learner.sees_images:
        for images, labels in batches:
            yield learner.inputs(clip, images), labels
        return
    batches = iter(batches)
    for first in batches:
        count = max(1, IMAGES_AT_ONCE // len(first[0]))
        images, labels = zip(first, *islice(batches, count - 1))
        sizes = [len(batch) for batch in images]
        inputs = [tensor.split(sizes) for tensor in learner.inputs(clip, torch.cat(images))]
        yield from zip(zip(*inputs), labels)


def summary(epoch: int, lr: float, losses: list[float]) -> dict[str, Any]:
    """Return an epoch's numbers. Raises RunError naming the first step whose loss isn't finite."""
    for step, value in enumerate(losses, 1):
        if not math.isfinite(value):
            raise RunError(f"epoch {epoch}, step {step}: the loss is {value}; try a smaller lr")
    return {"epoch": epoch, "lr": lr, "loss": sum(losses) / len(losses), "losses": losses}


def learning_rate(epoch: int, epochs: int, lr: float) -> float:
    """Return the rate of epoch e of E, from 0: 1e-5 in epoch 0, then lr · (1 + cos(π(e - 1)/E)) / 2: the full rate in
    epoch 1, and not zero in the last, as in the methods' own code."""
    if epoch == 0:
        return 1e-5
    return lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


@torch.no_grad()
def momentum_step(params: Params, grads: Params, momentum: Params, lr: float,
                  settings: FinetuneSettings) -> tuple[Params, Params]:
    """Take one step of SGD with momentum, with torch.optim.SGD's operations: new parameters and new momentum.

    That class would import torch's compiler, a second of every start.
    """
    decayed = {k: g.add(params[k], alpha=settings.weight_decay) for k, g in grads.items()}
    momentum = {k: (settings.momentum * momentum[k]).add(g) for k, g in decayed.items()}
    return {k: p.add(momentum[k], alpha=-lr) for k, p in params.items()}, momentum


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Return the weights of the prompts at the end of epochs 1..E in PromptSRC's average (GPA); they sum to 1."""
    distances = [(epoch - mean) / std for epoch in range(1, epochs + 1)]
    density = [math.exp(-d * d / 2) for d in distances]  # d ** 2 would be an error where d * d is infinite
    if sum(density) == 0:
        raise UserError(f"GPA's weights vanish: {epochs} epochs lie too far from their mean, {mean:g}; "
                        "give another --gpa-mean, or a larger --gpa-std")
    return [d / sum(density) for d in density]
