"""Every setting does something that can be seen, or is refused: found by walking over all of them, alone and beside others.

The loops are the real ones, on a learner so small that thousands of runs take seconds, in float64: what differs by more
than 1e-9 isn't rounding. No setting is named here but to make the runs short.
"""
import math
from dataclasses import fields
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data.dataset import Item, few_shot, restrict
from data.feed import Feed
from mp import regulator
from mp.finetune import finetune
from mp.learners import DEFAULT_METHOD, METHODS
from mp.learners.prompts import class_prompts
from mp.learners.settings import method_settings
from mp.maml import adam_start, sgd
from mp.meta import meta_train, start
from mp.prompts import learner_of
from mp.runtime.errors import UserError
from mp.settings import FinetuneSettings, MetaSettings, at_least
from mp.tasks import Task

RNG = np.random.default_rng(0)
TASKS = [[Item(RNG.integers(0, 256, (6, 5, 3), np.uint8), label) for label in range(4) for _ in range(9)] for _ in range(2)]
SHORT = {  # what is usual in these runs: something is left to be drawn, and steps are many and large
    MetaSettings: dict(epochs=2, inner_steps=2, inner_lr=0.1, shots=5, support=2, batch=3),
    FinetuneSettings: dict(epochs=3, lr=0.1, shots=3, batch=1),
}


class Toy(nn.Module):
    """A classifier of tiny images with second derivatives; it stands for a learner and its CLIP."""
    sees_images = True

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.logit_scale = torch.tensor(0.0, dtype=torch.float64)
        for name, shape in (("inner", (6, 12)), ("outer", (4, 6))):
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64) / 3))

    def inputs(self, clip, images):
        return (images[:, :2, :2].double().flatten(1) / 128 - 1,)

    def forward(self, clip, classes, pixels, labels):
        return F.cross_entropy(torch.tanh(pixels @ self.inner.T) @ self.outer.T, labels)


@cache
def meta_trained(settings):
    """What one sees of a meta-training: the prompt, Adam's mean and the norms in the log."""
    toy, tasks = Toy(), []
    for name, images in enumerate(TASKS):
        items = few_shot(images, settings.shots, settings.seed)
        views = torch.from_numpy(np.stack([item.source for item in items]))
        tasks.append(Task(str(name), None, toy.inputs(toy, views), torch.tensor([item.label for item in items])))
    state = start(toy)
    if settings.regulator:
        params = state.params | regulator.start(state.params, settings.seed)
        state = state._replace(params=params, adam=adam_start(params))
    make_update = regulator.sgd if settings.regulator else sgd
    states = list(meta_train(toy, toy, tasks, settings, state, make_update))
    norms = torch.tensor([state.numbers["grad_norm"] for state in states])
    mean = {f"adam.{name}": value for name, value in states[-1].adam.mean.items()}
    return {**states[-1].params, **mean, "norms": norms}


@cache
def fine_tuned(settings):
    """The prompt after a fine-tuning."""
    toy = Toy()
    items = restrict(few_shot(TASKS[0], settings.shots, settings.seed), 4, settings.classes)
    batches = Feed(4).augmented(items, settings.batch, settings.seed, "tiny")
    *_, state = finetune(toy, toy, None, batches, settings)
    return state.prompt


RUNS = {MetaSettings: meta_trained, FinetuneSettings: fine_tuned}


def differ(some, others):
    """Whether by more than rounding does."""
    same_shapes = {k: v.shape for k, v in some.items()} == {k: v.shape for k, v in others.items()}
    return not same_shapes or any((some[k] - others[k]).abs().max() > 1e-9 for k in some)


def walked(kind):
    """The fields that the loops read; those that a learner is made with are looked at in the learner."""
    return [one for one in fields(kind) if one.name != "method" and one.metadata.get("only_if") != "made_with"]


def other_values(one, value):
    """Some that the field may have beside `value`, by its type and its bound alone."""
    if one.type is bool:
        return [not value]
    bound = one.metadata.get("bound", at_least(0))  # the seed has none of its own
    if one.type is str:
        values = bound.words.removeprefix("one of ").split(", ")
    elif one.type is int:
        values = [*range(-1, 4), value + 1, 2 * value]
    else:
        values = [2 * value, value / 2, value / 1000, 1000 * value, math.inf, 0.0]
    return [other for other in dict.fromkeys(values) if other != value and bound.holds(other)]


def chosen(kind, method, given):
    """The settings; the text of the refusal where these play no part together; None where they are out of range."""
    try:
        return method_settings(kind, method, given, **SHORT[kind])
    except UserError as e:
        return str(e) if "plays no part" in str(e) else None


def seen(settings):
    """What a run with them leaves, or None if it refuses them."""
    try:
        return RUNS[type(settings)](settings)
    except UserError:
        return None


def idle(kind, method, one, beside):
    """Whether the setting is accepted beside these others, and none of its values changes anything."""
    without = chosen(kind, method, beside)
    if without is None or isinstance(without, str) or seen(without) is None:
        return False  # the others alone aren't accepted
    accepted = False
    for value in other_values(one, getattr(without, one.name)):
        settings = chosen(kind, method, beside | {one.name: value})
        if settings is None or isinstance(settings, str) or seen(settings) is None:
            continue
        if differ(seen(settings), seen(without)):
            return False
        accepted = True
    return accepted


@pytest.mark.parametrize("kind, method", [(MetaSettings, DEFAULT_METHOD), (FinetuneSettings, DEFAULT_METHOD), (FinetuneSettings, "coop")])
def test_each_setting_changes_what_is_learnt_or_is_refused_also_beside_others(kind, method):
    """Fine-tuning with an average over epochs and without. The others have their least values, which may switch something
    off, as no inner step and a single epoch do: each alone, and a switch beside any other."""
    usual = chosen(kind, method, {})
    least = {one.name: min(other_values(one, getattr(usual, one.name))) for one in walked(kind) if one.type is not float}
    switches = {name for name in least for one in walked(kind)
                if refused(kind, method, one, {name: least[name]}) and not refused(kind, method, one, {})}
    assert switches and len(switches) < 4
    pairs = [pair for pair in combinations(least, 2) if switches & {*pair}]
    for names in [(), *combinations(least, 1), *pairs]:
        beside = {name: least[name] for name in names}
        for one in walked(kind):
            assert one.name in names or not idle(kind, method, one, beside), f"{one.name} beside {beside}"
    for one in walked(kind):
        values = [chosen(kind, method, {one.name: value}) for value in other_values(one, getattr(usual, one.name))]
        assert [value for value in values if value is not None], f"no other value of {one.name} was tried"


def refused(kind, method, one, beside):
    """Return whether every value of the setting is refused beside these others."""
    values = other_values(one, getattr(chosen(kind, method, {}), one.name))
    return one.name not in beside and all(isinstance(chosen(kind, method, beside | {one.name: value}), str) for value in values)


@pytest.mark.parametrize("kind", [MetaSettings, FinetuneSettings])
@pytest.mark.parametrize("method", METHODS)
def test_each_setting_that_a_learner_is_made_with_changes_it_or_is_refused(method, kind, clip):
    images = torch.from_numpy(RNG.integers(0, 256, (2, *2 * [clip.visual.image_size], 3), np.uint8))

    def seen(settings):
        """Return the learner's tensors, and the loss and logits of two images."""
        learner = learner_of(settings, clip)
        inputs = learner.inputs(clip, images)
        classifier = learner.classifier(clip, class_prompts(clip, ["cat", "dog"]))
        loss = learner(clip, learner.prepare(clip, ["cat", "dog"]), *inputs, torch.tensor([0, 1]))
        return learner.state_dict() | {"loss": loss, "logits": classifier(inputs[0])}

    usual = method_settings(kind, method, {}, **SHORT.get(kind, {}) | {"depth": 2})
    shapes = [one for one in fields(kind) if one.metadata.get("only_if") == "made_with"]
    assert shapes
    for one in shapes:
        refusals, changes = [], []
        for value in other_values(one, getattr(usual, one.name)):
            try:
                settings = method_settings(kind, method, {one.name: value}, **SHORT.get(kind, {}) | {"depth": 2} | {one.name: value})
                changes.append(differ(seen(settings), seen(usual)))
            except UserError as e:
                refusals.append(str(e))
        if not any(changes):
            assert not changes and all(f"plays no part in {method}" in text for text in refusals) and refusals, one.name


def test_what_a_refusal_says():
    for kind, given, says in (
            (MetaSettings, dict(inner_steps=0, inner_lr=0.2), "--inner-lr 0.2: plays no part with --inner-steps 0; leave it out"),
            (MetaSettings, dict(inner_steps=0, query_batch=9, batch=4), "--batch 4: plays no part with --inner-steps 0 and a --query-batch; leave"),
            (FinetuneSettings, dict(epochs=1, lr=0.2), "--lr 0.2: plays no part with --epochs 1; leave it out")):
        with pytest.raises(UserError, match=f"^{says}"):
            method_settings(kind, DEFAULT_METHOD, given)
    batch = method_settings(MetaSettings, DEFAULT_METHOD, dict(inner_steps=0, batch=4))
    assert batch.batch == 4  # of the query loss
