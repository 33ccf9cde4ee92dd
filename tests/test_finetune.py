"""Fine-tuning trajectories against the original implementations: learning rates, losses, final and averaged tensors."""
import numpy as np
import pytest
import torch

from mp.runtime.errors import RunError, UserError
from mp.finetune import finetune, gaussian_weights, learning_rate, sgd
from mp.runtime.progress import Progress
from mp.settings import FINETUNE, FinetuneSettings
from tests.test_learners import golden_learner


@pytest.mark.parametrize("method", ["coop", "cocoop", "promptsrc"])
def test_learning_rates(method, golden_json):
    recipe = FINETUNE[method]
    rates = [learning_rate(e, recipe["epochs"], recipe["lr"]) for e in range(recipe["epochs"])]
    np.testing.assert_allclose(rates, golden_json["lr"][method], rtol=1e-9)


def golden_batches(recipe):
    def batches(epoch):
        for step in range(3):
            name = f"epoch{epoch}/step{step}"
            yield torch.from_numpy(recipe.images("A", name, 4)), torch.from_numpy(recipe.labels("A", name, 4, 7))
    return batches


def settings_of(case, **more):
    method = case.rstrip("23")
    lr = 0.025 if method == "promptsrc" else 0.1  # larger than the recipe's, so that four epochs move the prompts
    return FinetuneSettings(method=method, epochs=4, lr=lr, batch=4, gpa_mean=3, gpa_std=1, **more)


@pytest.mark.parametrize("case", ["coop", "cocoop", "promptsrc3"])
def test_golden_trajectory(case, clip, golden, recipe, tmp_path):
    learner, log = golden_learner(case, clip, recipe), []
    result, losses = finetune(learner, clip, learner.prepare(clip, recipe.CLASSES["A"]), golden_batches(recipe), settings_of(case), {},
                      tmp_path / "state.pt", lambda line, _: log.append(line))
    np.testing.assert_allclose([line["lr"] for line in log], golden[f"{case}/finetune/lr"], rtol=1e-6)
    np.testing.assert_allclose(sum((line["losses"] for line in log), []), golden[f"{case}/finetune/losses"], atol=2e-5)
    for name, p in learner.named_parameters():
        np.testing.assert_allclose(p.detach(), golden[f"{case}/finetune/last/{name}"], rtol=0, atol=2e-5)
        kind = "averaged" if case.startswith("promptsrc") else "last"
        np.testing.assert_allclose(result[name], golden[f"{case}/finetune/{kind}/{name}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", ["coop", "promptsrc2"])
def test_an_interrupted_run_ends_with_the_same_bits(case, clip, recipe, tmp_path):
    def run(file, stop_after, seed=1):
        learner = golden_learner(case, clip, recipe)

        def report(line, _):
            if line["epoch"] == stop_after:
                raise KeyboardInterrupt
        classes = learner.prepare(clip, recipe.CLASSES["A"])
        return finetune(learner, clip, classes, golden_batches(recipe), settings_of(case), {"seed": seed}, file, report)

    whole, losses = run(tmp_path / "whole.pt", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken.pt", 2)
    again, losses_again = run(tmp_path / "broken.pt", None)
    assert losses == losses_again and len(losses) == settings_of(case).epochs
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    with pytest.raises(UserError, match=r"other settings: seed 1 \(now 2\)"):
        run(tmp_path / "broken.pt", None, seed=2)


def test_nan_stops_with_epoch_and_step_and_keeps_the_last_state(clip, recipe, tmp_path):
    def batches(epoch):
        for step, (images, labels) in enumerate(golden_batches(recipe)(epoch)):
            yield images * (float("nan") if (epoch, step) == (1, 2) else 1), labels

    learner = golden_learner("coop", clip, recipe)
    with pytest.raises(RunError, match="epoch 2, step 3: the loss is nan"):
        finetune(learner, clip, learner.prepare(clip, recipe.CLASSES["A"]), batches, settings_of("coop"), {},
                 tmp_path / "state.pt", lambda *_: None)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert len(state["means"]) == 1 and all(p.isfinite().all() for p in state["params"].values())


def test_steps_equal_those_of_torchs_sgd():
    generator = torch.Generator().manual_seed(1)
    params = {k: torch.randn(shape, generator=generator, requires_grad=True) for k, shape in (("a", (7, 3)), ("b", (5,)))}
    theirs = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
    settings, momentum = FinetuneSettings("coop", 1, 1.0, 4, weight_decay=0.1), {k: torch.zeros_like(p) for k, p in params.items()}
    optimizer = torch.optim.SGD(theirs.values(), lr=1.0, momentum=settings.momentum, weight_decay=0.1)
    for lr in (1e-5, 0.3, 0.2, 0.1):
        optimizer.param_groups[0]["lr"] = lr
        for p in theirs.values():
            p.grad = torch.randn(p.shape, generator=generator)
        sgd(params, {k: p.grad for k, p in theirs.items()}, momentum, lr, settings)
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
    with pytest.raises(UserError, match="vanish"):
        gaussian_weights(2, 100, 1)
