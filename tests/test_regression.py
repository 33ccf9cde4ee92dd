"""A short run of everything, on two threads, against stored numbers; and the checks that stop a run."""
import json
import os
import subprocess
import sys

import pytest
import torch

from mp import maml
from mp.experiment import training
from mp.runtime.errors import RunError
from mp.evaluate import accuracies
from mp.settings import MetaSettings
from mp.tasks import Task
from tests.conftest import ROOT
from tests.golden.regression import FILE
from tests.learners.test_learners import golden_learner
from tests.test_finetune import changes_of, golden_batches
from tests.trainings import learn, session_of, tune

# Rounding differs between machines and numbers of threads by 1e-6, and Adam's first steps turn what is near zero into
# steps of full length; one of a dataset's test images may fall on the other side of a border between classes.
TOLERANCES = {"meta": dict(rel=1e-3), "prompts": dict(rel=5e-4), "finetune": dict(rel=1e-3),
              "accuracies": dict(abs=1.01), "table": dict(abs=1.01)}


def flat(value, place=()):
    """Every number by its place."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(inner, (*place, key))
    else:
        yield place, value


def test_a_short_run_of_everything(tmp_path):
    env = os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}  # else threads spin on a busy machine
    subprocess.run([sys.executable, "-m", "tests.golden.regression", "--to", tmp_path / "r.json"], cwd=ROOT, check=True,
                   env=env, capture_output=True)
    ours, theirs = json.loads((tmp_path / "r.json").read_text()), json.loads(FILE.read_text())
    assert ours.keys() == theirs.keys() == TOLERANCES.keys()
    wrong = []
    for kind, tolerance in TOLERANCES.items():
        found, expected = dict(flat(ours[kind])), dict(flat(theirs[kind]))
        assert found.keys() == expected.keys() and expected
        for place, value in expected.items():
            try:
                good = float(found[place]) == pytest.approx(float(value), **tolerance)
            except ValueError:  # a name
                good = found[place] == value
            wrong += [] if good else [(kind, place, found[place], value)]
    assert not wrong


def meta_run(learner, clip, recipe, folder):
    images = torch.from_numpy(recipe.images("A", "one", 16))
    labels = torch.arange(2).repeat_interleave(8)
    task = Task("one", learner.prepare(clip, ["cat", "t-rex"]), learner.inputs(clip, images), labels)
    settings = MetaSettings("coop", epochs=3, inner_lr=0.025 / 6, shots=8, support=4, batch=6)
    learn(session_of(clip), learner, [task], settings, folder)


def tune_run(learner, clip, recipe, folder):
    """Of this very learner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "learner_of", lambda *_: learner)
        session = session_of(clip, recipe.CLASSES["A"], golden_batches(recipe))
        tune(session, "coop", changes_of("coop"), folder)


@pytest.mark.parametrize("run", [meta_run, tune_run])
def test_a_gradient_of_exactly_zero_is_reported_once(run, clip, recipe, tmp_path, capsys):
    """CoCoOp's hidden units are dead: the first layer and the second one's weights get nothing, the rest learns."""
    learner = golden_learner("cocoop", clip, recipe)
    with torch.no_grad():
        learner.meta_net.linear1.bias.fill_(-1e3)
    run(learner, clip, recipe, tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "exactly zero" in line]
    names = ["meta_net.linear1.weight", "meta_net.linear1.bias", "meta_net.linear2.weight"]
    assert said == [f"the gradient of {name} is exactly zero, so it learns nothing" for name in names]
    run(golden_learner("cocoop", clip, recipe), clip, recipe, tmp_path / "other")
    assert "exactly zero" not in capsys.readouterr().err


def test_a_gradient_that_is_not_finite_stops_the_fine_tuning(clip, recipe, tmp_path, monkeypatch):
    """In the last step of the last epoch, where no later loss would tell."""
    learner, steps = golden_learner("coop", clip, recipe), []
    forward = type(learner).forward

    def poisoned(*args):
        loss = forward(*args)
        steps.append(1)
        if len(steps) == 12:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(type(learner), "forward", poisoned)
    with pytest.raises(RunError, match="epoch 4: ctx or its gradient isn't finite.*try a smaller lr"):
        tune_run(learner, clip, recipe, tmp_path)
    assert len(torch.load(tmp_path / "r.state-cpu-fp32.pt", weights_only=True)["log"]) == 3


def test_parameters_that_are_not_finite_stop_the_meta_training(clip, recipe, tmp_path, monkeypatch):
    """In the last epoch, where no later loss would tell."""
    update, epochs = maml.meta_update, []

    def poison(*args):
        params, *rest = update(*args)
        epochs.append(1)
        return {k: p * float("nan") if len(epochs) == 3 else p for k, p in params.items()}, *rest

    monkeypatch.setattr(maml, "meta_update", poison)
    with pytest.raises(RunError, match="epoch 3: ctx or its gradient isn't finite.*try a smaller inner_lr or meta_lr"):
        meta_run(golden_learner("coop", clip, recipe), clip, recipe, tmp_path)
    state = torch.load(tmp_path / "state-cpu-fp32.pt", weights_only=True)
    assert len(state["log"]) == 2 and state["state"]["params"]["ctx"].isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_no_accuracy(bad):
    logits = torch.eye(4)
    assert accuracies(logits, torch.arange(4))["all"] == 100
    logits[2, 3] = bad
    with pytest.raises(RunError, match="aren't all finite"):
        accuracies(logits, torch.arange(4))
