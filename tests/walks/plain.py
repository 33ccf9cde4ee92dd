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
from tests.walks.outputs import PARTS
from tests.walks.small import LEARNT, META_EPOCHS, TRAINING, TUNED, load, small

Params = dict[str, Tensor]
SHAPE = ("length", "depth")
ORIGINAL = dict(momentum=0.9, weight_decay=5e-4, gpa_mean=None, gpa_std=1.0)  # beside TUNED


@cache
def clip():
    return load_clip("mini", device="cpu")


def labels_of(part: str, count: int) -> list[int]:
    base = (count + 1) // 2
    return {"base": list(range(base)), "new": list(range(base, count)), "all": list(range(count))}[part]


def start(method: str, seed: int = 1, **shape: int) -> Params:
    """Return a method's handcrafted start."""
    return make_learner(method, clip(), seed=seed, **shape).state_dict()


def learner_with(method: str, params: Params, **shape: int):
    learner = make_learner(method, clip(), **shape)
    learner.load_state_dict(params)
    return learner


def accuracies(prompt: Any, dataset: str) -> dict[str, float]:
    """Return how many per cent words, or a learner, get right of each part's test images, among its classes alone."""
    data, shares = load(dataset), {}
    probabilities = classify(prompt, clip(), [item.source for item in data.test], data.classes)
    labels = torch.tensor([item.label for item in data.test])
    for part in PARTS:
        chosen = torch.tensor(labels_of(part, len(data.classes)))
        images = torch.isin(labels, chosen)
        guesses = chosen[probabilities[images][:, chosen].argmax(1)]
        shares[part] = 100 * (guesses == labels[images]).double().mean().item()
    return shares


def shot_items(dataset: str, part: str, shots: int, seed: int) -> list[Item]:
    data = load(dataset)
    labels = labels_of(part, len(data.classes))
    drawn = few_shot(data.train, shots, seed)
    return [Item(item.source, labels.index(item.label)) for item in drawn if item.label in labels]


def tuned(method: str, params: Params, dataset: str, part: str = "base", seed: int = 1, **changes: Any
          ) -> tuple[Params, Params]:
    """Return the prompt fine-tuned from `params`, and that of the last epoch."""
    settings = ORIGINAL | TUNED | changes
    epochs, lr = settings["epochs"], settings["lr"]
    data, learner = load(dataset), learner_with(method, params, **{name: changes[name] for name in SHAPE if name in changes})
    with small():
        classes = learner.prepare(clip(), [data.classes[i] for i in labels_of(part, len(data.classes))])
    items = shot_items(dataset, part, settings["shots"], seed)
    batches = Feed(32).augmented(items, settings["batch"], seed, dataset)
    optimiser = torch.optim.SGD(learner.parameters(), lr, settings["momentum"], weight_decay=settings["weight_decay"])
    mean = settings["gpa_mean"] or 0.75 * epochs
    weights = np.exp(-(((np.arange(1, epochs + 1) - mean) / settings["gpa_std"]) ** 2) / 2)
    average = {name: torch.zeros_like(value) for name, value in params.items()}
    for epoch in range(epochs):
        rate = 1e-5 if epoch == 0 else lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        optimiser.param_groups[0]["lr"] = rate
        for images, labels in batches(epoch):
            optimiser.zero_grad()
            learner(clip(), classes, *learner.inputs(clip(), images), labels).backward()
            optimiser.step()
        for name, value in learner.state_dict().items():
            average[name] = average[name] + float(weights[epoch] / weights.sum()) * value
    last = {name: value.clone() for name, value in learner.state_dict().items()}
    return (average if method == "promptsrc" else last), last


@cache
def learnt(method: str, seed: int = 1, tasks: tuple[str, ...] = tuple(TRAINING), **changes: Any) -> Params:
    """Return the meta-prompt."""
    shape = {name: changes.pop(name) for name in SHAPE if name in changes}
    settings = LEARNT | {"epochs": META_EPOCHS} | changes
    shots = settings.pop("shots")
    if settings["inner_steps"] == 0:
        del settings["inner_lr"]  # which then plays no part
    data = {}
    for name in tasks:
        items = few_shot(load(name).train, shots, seed)
        data[name] = [item.source for item in items], [item.label for item in items], load(name).classes
    learner = make_learner(method, clip(), seed=seed, **shape)
    with small():
        return meta_train(learner, clip(), data, seed=seed, **settings).state_dict()


def close(ours: Params, theirs: Params) -> bool:
    """Whether they are the same prompt; prompts of other settings differ by a thousandth at least."""
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        return False
    return all(torch.allclose(ours[name], theirs[name], rtol=0, atol=2e-5) for name in ours)
