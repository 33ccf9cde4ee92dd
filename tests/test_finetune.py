"""Fine-tuning trajectories against the original implementations: learning rates, losses, final and averaged tensors."""
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from data.dataset import Item
from mp.runtime.errors import RunError, UserError
from mp.finetune import finetune, gaussian_weights, learning_rate, momentum_step, with_inputs
from mp.learners import METHODS, make_learner
from mp.runtime.progress import Progress
from mp.settings import FinetuneSettings, in_words
from tests.learners.test_learners import golden_learner
from tests.trainings import session_of, tune


@pytest.mark.parametrize("method", ["coop", "cocoop", "promptsrc"])
def test_learning_rates(method, golden_json):
    recipe = METHODS[method].finetune
    rates = [learning_rate(e, recipe["epochs"], recipe["lr"]) for e in range(recipe["epochs"])]
    np.testing.assert_allclose(rates, golden_json["lr"][method], rtol=1e-9)


def golden_batches(recipe):
    def batches(epoch):
        for step in range(3):
            name = f"epoch{epoch}/step{step}"
            yield torch.from_numpy(recipe.images("A", name, 4)), torch.from_numpy(recipe.labels("A", name, 4, 7))
    return batches


def changes_of(method):
    """Of the usual settings."""
    lr = 0.025 if method == "promptsrc" else 0.1  # larger than the recipe's, so that four epochs move the prompts
    return {"epochs": 4, "lr": lr, "batch": 4} | ({"gpa_mean": 3, "gpa_std": 1} if method == "promptsrc" else {})


def settings_of(case, **changes):
    method = case.rstrip("23")
    return FinetuneSettings(method=method, **changes_of(method) | changes)


@pytest.mark.parametrize("case", ["coop", "cocoop", "promptsrc3"])
def test_golden_trajectory(case, clip, golden, recipe):
    learner = golden_learner(case, clip, recipe)
    classes = learner.prepare(clip, recipe.CLASSES["A"])
    before = {k: p.detach().clone() for k, p in learner.named_parameters()}
    states = list(finetune(learner, clip, classes, golden_batches(recipe), settings_of(case)))
    np.testing.assert_allclose([state.numbers["lr"] for state in states], golden[f"{case}/finetune/lr"], rtol=1e-6)
    losses = np.concatenate([state.numbers["losses"] for state in states])
    np.testing.assert_allclose(losses, golden[f"{case}/finetune/losses"], atol=2e-5)
    for name, p in states[-1].params.items():
        np.testing.assert_allclose(p, golden[f"{case}/finetune/last/{name}"], rtol=0, atol=2e-5)
        kind = "averaged" if case.startswith("promptsrc") else "last"
        np.testing.assert_allclose(states[-1].prompt[name], golden[f"{case}/finetune/{kind}/{name}"], rtol=0, atol=2e-5)
    assert all(torch.equal(before[k], p) for k, p in learner.named_parameters())  # the learner itself is left as it was


def test_decay_and_momentum_act_after_the_direction(clip, recipe):
    """By default it is the gradient itself; any other takes its place before torch.optim.SGD's formula."""
    learner = golden_learner("coop", clip, recipe)
    classes = learner.prepare(clip, recipe.CLASSES["A"])
    settings = settings_of("coop", weight_decay=0.5)
    seen = []

    def doubled(grads):
        seen.append(grads)
        return {k: 2 * g for k, g in grads.items()}

    *_, state = finetune(learner, clip, classes, golden_batches(recipe), settings, direction=doubled)
    *_, plain = finetune(learner, clip, classes, golden_batches(recipe), settings)
    *_, same = finetune(learner, clip, classes, golden_batches(recipe), settings, direction=dict)
    assert torch.equal(plain.params["ctx"], same.params["ctx"]) and len(seen) == 12
    ctx = learner.ctx.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([ctx], lr=1.0, momentum=settings.momentum, weight_decay=0.5)
    for step, grads in enumerate(seen):
        optimizer.param_groups[0]["lr"] = learning_rate(step // 3, 4, settings.lr)
        ctx.grad = 2 * grads["ctx"]
        optimizer.step()
    torch.testing.assert_close(state.params["ctx"], ctx.detach(), rtol=0, atol=1e-6)
    assert (state.params["ctx"] - plain.params["ctx"]).abs().max() > 1e-2


@pytest.mark.parametrize("case", ["coop", "promptsrc2"])
def test_it_goes_on_from_any_state(case, clip, recipe):
    learner = golden_learner(case, clip, recipe)
    classes = learner.prepare(clip, recipe.CLASSES["A"])
    states = list(finetune(learner, clip, classes, golden_batches(recipe), settings_of(case)))
    again = list(finetune(learner, clip, classes, golden_batches(recipe), settings_of(case), states[1]))
    assert [state.epoch for state in again] == [3, 4]
    assert all(torch.equal(states[-1].prompt[k], again[-1].prompt[k]) for k in states[-1].prompt)


@pytest.fixture
def items():
    """Of which only the number counts: what is seen are the golden batches."""
    return [Item(np.full((2, 2, 3), i, np.uint8), i % 7) for i in range(14)]


def test_nan_stops_with_epoch_and_step_and_keeps_the_last_state(clip, recipe, items, tmp_path):
    def batches(epoch):
        for step, (images, labels) in enumerate(golden_batches(recipe)(epoch)):
            yield images * (float("nan") if (epoch, step) == (1, 2) else 1), labels

    with pytest.raises(RunError, match="^epoch 2, step 3: the loss is nan; .*; the state of the last good epoch is kept"):
        tune(session_of(clip, recipe.CLASSES["A"], batches, items), "coop", changes_of("coop"), tmp_path)
    state, = tmp_path.glob("*.pt")
    content = torch.load(state, weights_only=True)
    assert content["state"]["epoch"] == len(content["log"]) == 1
    assert all(p.isfinite().all() for p in content["state"]["params"].values())


def test_steps_equal_those_of_torchs_sgd():
    generator = torch.Generator().manual_seed(1)
    params = {k: torch.randn(shape, generator=generator, requires_grad=True) for k, shape in (("a", (7, 3)), ("b", (5,)))}
    theirs = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
    settings = FinetuneSettings("coop", epochs=1, lr=1.0, batch=4, weight_decay=0.1)
    momentum = {k: torch.zeros_like(p) for k, p in params.items()}
    optimizer = torch.optim.SGD(theirs.values(), lr=1.0, momentum=settings.momentum, weight_decay=0.1)
    for lr in (1e-5, 0.3, 0.2, 0.1):
        optimizer.param_groups[0]["lr"] = lr
        for p in theirs.values():
            p.grad = torch.randn(p.shape, generator=generator)
        params, momentum = momentum_step(params, {k: p.grad for k, p in theirs.items()}, momentum, lr, settings)
        optimizer.step()
        assert all(torch.equal(params[k], theirs[k]) for k in params)


def test_what_an_earlier_run_did_does_not_count_for_the_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("epoch")
    progress.update(20, 40, "done before", 0)
    for epoch in (21, 22):
        now[0] += 30
        progress.update(epoch, 40, "", 1)
    assert capsys.readouterr().err.splitlines() == ["epoch 20/40  done before", "epoch 21/40    ETA 9:30", "epoch 22/40    ETA 9:00"]


def test_gaussian_weights():
    weights = gaussian_weights(20, 15, 1)
    density = torch.distributions.Normal(15.0, 1.0).log_prob(torch.arange(1.0, 21.0, dtype=torch.float64)).exp()
    np.testing.assert_allclose(weights, density / density.sum(), rtol=1e-5)
    by_hand = np.array([np.exp(-2), np.exp(-0.5), 1, np.exp(-0.5)])  # around the third of four epochs
    np.testing.assert_allclose(gaussian_weights(4, 3, 1), by_hand / by_hand.sum(), rtol=1e-12)
    by_hand = np.array([np.exp(-1 / 8), 1, np.exp(-1 / 8)])
    np.testing.assert_allclose(gaussian_weights(3, 2, 2), by_hand / by_hand.sum(), rtol=1e-12)
    assert gaussian_weights(1, 0.75, 1) == [1.0] and gaussian_weights(2, 1.5, 1) == [0.5, 0.5]
    with pytest.raises(UserError, match="vanish"):
        gaussian_weights(2, 100, 1)


@pytest.mark.parametrize("epochs, mean", [(20, 15.0), (200, 150.0), (2, 1.5), (1, 0.75)])
def test_the_average_has_its_mean_at_the_same_share_of_the_epochs(epochs, mean):
    settings = FinetuneSettings("promptsrc", **METHODS["promptsrc"].finetune | {"epochs": epochs})
    assert asdict(settings)["gpa_mean"] == mean and type(settings.gpa_mean) is float and settings.gpa_std == 1.0
    assert f"gpa_mean {mean:g}, gpa_std 1" in in_words(asdict(settings))
    weights = gaussian_weights(epochs, settings.gpa_mean, settings.gpa_std)
    assert abs(sum(e * w for e, w in enumerate(weights, 1)) - mean) < 0.3
    assert replace(settings, depth=2).gpa_mean == mean  # for the miniature's towers
    chosen = FinetuneSettings("promptsrc", **METHODS["promptsrc"].finetune | {"epochs": epochs, "gpa_mean": 3.0})
    assert chosen.gpa_mean == 3.0


def test_methods_without_an_average_keep_the_settings_that_their_results_have():
    assert FinetuneSettings("coop", **METHODS["coop"].finetune | {"epochs": 200}).gpa_mean == 15.0


@pytest.mark.parametrize("epochs", ["3", 0, True, None])
def test_epochs_are_checked_also_where_the_mean_follows_from_them(epochs):
    with pytest.raises(UserError, match="--epochs"):
        FinetuneSettings("promptsrc", **METHODS["promptsrc"].finetune | {"epochs": epochs})


@pytest.mark.parametrize("method, sizes", [
    ("coop", [1] * 70), ("coop", [3, 3, 3]), ("coop", [40, 40, 7]), ("coop", [65]), ("promptsrc", [3, 3, 3])])
def test_frozen_features_of_many_small_batches_are_those_of_each(method, sizes, clip, recipe):
    """In the same order, and asked of the tower as few times as its batches may be large."""
    images = torch.from_numpy(recipe.images("A", "many", sum(sizes)))
    labels = torch.arange(sum(sizes))
    learner, calls = make_learner(method, clip, 2, 2, torch.Generator().manual_seed(0)), []
    batches = list(zip(images.split(sizes), labels.split(sizes)))

    class Counted:
        sees_images = learner.sees_images

        def inputs(self, clip, some):
            calls.append(len(some))
            return learner.inputs(clip, some)

    found = list(with_inputs(Counted(), clip, iter(batches)))
    for (inputs, its_labels), (some, expected) in zip(found, batches, strict=True):
        assert torch.equal(its_labels, expected)
        for one, alone in zip(inputs, learner.inputs(clip, some), strict=True):
            torch.testing.assert_close(one, alone, rtol=0, atol=1e-6)
    at_once = {(1,) * 70: [64, 6], (3, 3, 3): [9], (40, 40, 7): [40, 40, 7], (65,): [65]}[tuple(sizes)]
    assert calls == (sizes if learner.sees_images else at_once) and list(with_inputs(learner, clip, iter([]))) == []
