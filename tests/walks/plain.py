"""What commands should compute, computed beside them: with mp's interface for scripts, and fine-tuning written out with
torch's own optimiser. Everything is of the small suite and the miniature's CLIP."""
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.dataset import Item, few_shot
from data.feed import Feed
from mp import classify, load_clip, make_learner, meta_train
from tests.walks.small import LEARNT, META_EPOCHS, TRAINING, TUNED, load, small

Params = dict[str, Tensor]


@cache
def clip():
    return load_clip("mini", device="cpu")


def labels_of(part: str, count: int) -> list[int]:
    base = (count + 1) // 2
    return {"base": list(range(base)), "new": list(range(base, count)), "all": list(range(count))}[part]


def start(method: str, seed: int = 1, **shape: int) -> Params:
    """Of the handcrafted start."""
    return make_learner(method, clip(), seed=seed, **shape).state_dict()


def learner_with(method: str, params: Params, **shape: int):
    learner = make_learner(method, clip(), **shape)
    learner.load_state_dict(params)
    return learner


def accuracies(prompt: Any, dataset: str) -> dict[str, float]:
    """Per cent right of words, or a learner's prompt, on each part's test images, told apart among its classes alone."""
    data, found = load(dataset), {}
    for part in ("base", "new", "all"):
        labels = labels_of(part, len(data.classes))
        items = [item for item in data.test if item.label in labels]
        guesses = classify(prompt, clip(), [item.source for item in items], [data.classes[i] for i in labels]).argmax(1)
        right = [labels[guess] == item.label for guess, item in zip(guesses.tolist(), items)]
        found[part] = 100 * sum(right) / len(right)
    return found


def shot_items(dataset: str, part: str, shots: int, seed: int) -> list[Item]:
    data = load(dataset)
    labels = labels_of(part, len(data.classes))
    return [Item(item.source, labels.index(item.label)) for item in few_shot(data.train, shots, seed) if item.label in labels]


def tuned(method: str, params: Params, dataset: str, part: str = "base", seed: int = 1, momentum: float = 0.9,
          weight_decay: float = 5e-4, gpa_mean: float | None = None, gpa_std: float = 1.0, **other: Any) -> tuple[Params, Params]:
    """The prompt fine-tuned from `params`, and that of the last epoch."""
    wanted = TUNED | {name: value for name, value in other.items() if name in TUNED}
    learner = learner_with(method, params, **{name: value for name, value in other.items() if name not in TUNED})
    data, epochs, lr = load(dataset), wanted["epochs"], wanted["lr"]
    with small():
        classes = learner.prepare(clip(), [data.classes[i] for i in labels_of(part, len(data.classes))])
    batches = Feed(32).augmented(shot_items(dataset, part, wanted["shots"], seed), wanted["batch"], seed, dataset)
    optimiser = torch.optim.SGD(learner.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    mean = 0.75 * epochs if gpa_mean is None else gpa_mean
    weights = np.exp(-(((np.arange(1, epochs + 1) - mean) / gpa_std) ** 2) / 2)
    average = {name: torch.zeros_like(value) for name, value in params.items()}
    for epoch in range(epochs):
        optimiser.param_groups[0]["lr"] = 1e-5 if epoch == 0 else lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        for images, labels in batches(epoch):
            optimiser.zero_grad()
            learner(clip(), classes, *learner.inputs(clip(), images), labels).backward()
            optimiser.step()
        for name, value in learner.state_dict().items():
            average[name] = average[name] + float(weights[epoch] / weights.sum()) * value
    last = {name: value.clone() for name, value in learner.state_dict().items()}
    return (average if method == "promptsrc" else last), last


@cache
def learnt(method: str, seed: int = 1, tasks: tuple[str, ...] = tuple(TRAINING), **given: Any) -> Params:
    """The meta-prompt."""
    shape = {name: given.pop(name) for name in ("length", "depth") if name in given}
    wanted = LEARNT | {"epochs": META_EPOCHS} | given
    shots = wanted.pop("shots")
    if wanted["inner_steps"] == 0:
        del wanted["inner_lr"]  # which then plays no part
    data = {}
    for name in tasks:
        items = few_shot(load(name).train, shots, seed)
        data[name] = [item.source for item in items], [item.label for item in items], load(name).classes
    learner = make_learner(method, clip(), seed=seed, **shape)
    with small():
        return meta_train(learner, clip(), data, seed=seed, **wanted).state_dict()


def close(ours: Params, theirs: Params) -> bool:
    """Whether they are the same prompt; prompts of other settings differ by a thousandth at least."""
    return ours.keys() == theirs.keys() and all(
        ours[name].shape == theirs[name].shape and torch.allclose(ours[name], theirs[name], rtol=0, atol=2e-5) for name in ours)
