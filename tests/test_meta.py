"""Meta-training: an epoch against the formula, going on from a state, stopping at a loss that isn't finite, memory."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.dataset import Item
from data.feed import Feed
from data.suite import open_suite
from mp import maml
from mp.clip.model import SECOND_ORDER, normalise
from mp.experiment import arms
from mp.experiment.arms import Arm, changed
from mp.experiment.training import say_if_too_large
from mp.learners import METHODS, make_learner
from mp.learners.coop import CoOp
from mp.runtime.errors import RunError, UserError
from mp.meta import meta_train
from mp.settings import MetaSettings
from mp.tasks import Task, draw_batches, kept_graphs, make_task
from tests.trainings import learn, session_of


@pytest.mark.parametrize("steps, query_batch", [(4, -1), (0, 0)])
def test_one_image_of_each_class_cannot_be_divided(clip, recipe, steps, query_batch):
    """Refused before an image is looked at; with two images of one class there is something to train."""
    def never():
        raise AssertionError("an image was asked for")
        yield

    learner, words = make_learner("coop", clip), ["cat", "red fox", "t-rex"]
    with pytest.raises(UserError, match="^ponds: one training image of each class, such as 'cat'; .*add images$"):
        make_task(learner, clip, "ponds", words, never(), [0, 1, 2])
    images = torch.from_numpy(recipe.images("A", "one", 4))
    task = make_task(learner, clip, "ponds", words, [images], [0, 1, 2, 2])
    config = settings(epochs=1, inner_steps=steps, query_batch=query_batch)
    state, = meta_train(learner, clip, [task], config)
    assert state.numbers["query_loss"] > 0


@pytest.fixture
def tasks(clip, recipe):
    learner = CoOp(clip)
    result = []
    for name, words in (("one", ["cat", "t-rex", "sea or lake"]), ("two", ["café", "wheelchair"])):
        labels = torch.arange(len(words)).repeat_interleave(16)
        images = torch.from_numpy(recipe.images("A", name, len(labels)))
        result.append(Task(name, learner.prepare(clip, words), learner.inputs(clip, images), labels))
    return result


def settings(**more):
    return MetaSettings("coop", **(METHODS["coop"].meta | {"epochs": 2, "batch": 8, "meta_lr": 0.01} | more))


def saved(clip, tasks, config, folder, report=lambda epoch, text: None):
    """What run.py meta does, in a folder."""
    return learn(session_of(clip), CoOp(clip), tasks, config, folder, report)


def test_one_epoch_is_the_mean_over_tasks_clipped_into_adam(clip, tasks):
    """The loop against the same epoch written with autograd through all steps and torch.optim.Adam."""
    for sum_tasks in (False, True):
        config = settings(query_batch=0, clip_norm=0.01, sum_tasks=sum_tasks)
        learner = CoOp(clip)
        p = learner.ctx.detach().clone().requires_grad_()
        total = 0
        for number, task in enumerate(tasks):
            def loss(ctx, rows):
                return maml.run(learner, {"ctx": ctx}, clip, task.classes, task.inputs[0][rows], task.labels[rows])
            support, query = draw_batches(task, config, 0, number)
            adapted = p
            for (rows, _), in support:
                adapted = adapted - config.inner_lr * torch.autograd.grad(loss(adapted, rows), adapted, create_graph=True)[0]
            everything = np.concatenate([rows for rows, _ in query])
            total = total + loss(adapted, everything) / (1 if sum_tasks else len(tasks))
        optimizer = torch.optim.Adam([p], lr=config.meta_lr)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_([p], config.clip_norm)
        optimizer.step()
        state = next(meta_train(learner, clip, tasks, config))
        assert norm > config.clip_norm
        assert state.numbers["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
        assert state.numbers["clipped_norm"] == pytest.approx(min(float(norm), config.clip_norm), rel=1e-4)
        sure = p.grad.abs() > 1e-2 * p.grad.abs().max()  # Adam's first step is a sign: rounding flips it near zero
        assert sure.float().mean() > 0.9
        torch.testing.assert_close(state.params["ctx"][sure], p.detach()[sure], rtol=0, atol=1e-5)


def test_the_loop_needs_no_files_and_goes_on_from_any_state(clip, tasks):
    states = list(meta_train(CoOp(clip), clip, tasks, settings(epochs=3)))
    assert [state.epoch for state in states] == [state.numbers["epoch"] for state in states] == [1, 2, 3]
    again = list(meta_train(CoOp(clip), clip, tasks, settings(epochs=3), states[0]))
    assert [state.epoch for state in again] == [2, 3]
    assert torch.equal(again[-1].params["ctx"], states[-1].params["ctx"])
    assert not torch.equal(states[-1].params["ctx"], states[0].params["ctx"])


def test_a_kill_between_the_last_state_and_its_log_line_loses_no_line(clip, tasks, tmp_path):
    whole = saved(clip, tasks, settings(), tmp_path)
    log = tmp_path / "log.jsonl"
    before = log.read_text()
    log.write_text("".join(before.splitlines(keepends=True)[:-1]))
    assert torch.equal(saved(clip, tasks, settings(), tmp_path)["ctx"], whole["ctx"])
    assert log.read_text() == before and before.count("\n") == 2


@pytest.mark.parametrize("poisoned, where", [(0, "task one, inner step 1"), (1, "task two, inner step 1")])
def test_nan_names_epoch_task_and_step_and_keeps_the_last_state(clip, tasks, tmp_path, poisoned, where):
    def stop(epoch, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saved(clip, tasks, settings(), tmp_path, stop)
    state = (tmp_path / "state-cpu-fp32.pt").read_bytes()
    bad = list(tasks)
    bad[poisoned] = tasks[poisoned]._replace(inputs=(tasks[poisoned].inputs[0] * float("nan"),))
    with pytest.raises(RunError, match=f"epoch 2, {where}: the loss is nan; .*; the state of the last good epoch is kept"):
        saved(clip, bad, settings(), tmp_path)
    assert (tmp_path / "state-cpu-fp32.pt").read_bytes() == state


def test_nan_in_the_first_epoch_keeps_no_state(clip, tasks, tmp_path):
    bad = [tasks[0]._replace(inputs=(tasks[0].inputs[0] * float("nan"),))]
    with pytest.raises(RunError, match="epoch 1, .*: the loss is nan") as error:
        saved(clip, bad, settings(), tmp_path)
    assert "is kept" not in str(error.value) and not list(tmp_path.glob("state*"))


def test_a_tensor_without_a_gradient_is_named(clip, tasks):
    zero = [task._replace(inputs=(task.inputs[0] * 0,)) for task in tasks]  # all logits are 0, whatever the prompt
    assert next(meta_train(CoOp(clip), clip, zero, settings())).numbers["zero_gradients"] == ["ctx"]
    assert next(meta_train(CoOp(clip), clip, tasks, settings())).numbers["zero_gradients"] == []


def test_infinite_clip_norm_never_clips(clip, tasks):
    free, wide = (next(meta_train(CoOp(clip), clip, tasks, settings(clip_norm=g))) for g in (float("inf"), 1e9))
    assert torch.equal(free.params["ctx"], wide.params["ctx"])
    assert free.numbers["clipped_norm"] == free.numbers["grad_norm"] > 0


def test_settings_that_make_no_sense_are_refused():
    for bad, message in ((dict(shots=5), "--shots 5 leaves no query image"), (dict(inner_steps=-1), "--inner-steps -1"),
                         (dict(inner_lr=0), "--inner-lr 0"), (dict(clip_norm=float("nan")), "--clip-norm nan"),
                         (dict(clip_norm=-float("inf")), "--clip-norm -inf: out of range; give a positive number"),
                         (dict(inner_lr=float("inf")), "--inner-lr inf"), (dict(epochs=2.5), "--epochs 2.5"),
                         (dict(epochs=True), "--epochs True"), (dict(first_order=1), "--first-order 1")):
        with pytest.raises(UserError, match=message):
            settings(**bad)


def test_folders_tell_settings_apart():
    """In words, beside the digits."""
    suite = open_suite(None)

    def words(seed=1, suite=suite, **changes):
        return arms.meta_words(suite, Arm("promptsrc", learnt=changed(**changes)), seed)

    assert words() == "promptsrc-seed1" and words(depth=3) == "promptsrc-seed1-depth3"
    assert words(3, inner_steps=0) == "promptsrc-seed3-inner_steps0"
    assert words(epochs=suite.meta_epochs, clip_norm=5.0) == "promptsrc-seed1"  # as they are anyway
    assert words(suite=open_suite(None, None, ["pets", "cars"])) == "promptsrc-seed1-pets+cars"


def test_a_task_of_images_keeps_bytes_and_learns_the_same(clip):
    """The loss of bytes is that of the normalised floats, to the bit; what a task keeps of an image is a quarter."""
    learner = make_learner("promptsrc", clip, 2, 4)
    size = clip.visual.image_size
    pixels = torch.randint(256, (6, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1] * 3)
    items = [Item(image.numpy(), 0) for image in pixels]
    task = make_task(learner, clip, "one", ["cat", "dog"], Feed(size).plain(items), labels.tolist())
    assert task.inputs[0].dtype == torch.uint8 and torch.equal(task.inputs[0], pixels)
    floats = learner.inputs(clip, normalise(pixels))
    losses = [learner(clip, task.classes, *inputs, labels) for inputs in (task.inputs, floats)]
    assert torch.equal(*losses)
    for ours, theirs in zip(*(torch.autograd.grad(loss, tuple(learner.parameters())) for loss in losses), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("method", ["cocoop", "promptsrc"])
def test_what_an_image_takes_bounds_the_parts_of_a_batch(method, clip, recipe, monkeypatch, capsys):
    learner = make_learner(method, clip, 2, 4)
    images = [torch.from_numpy(recipe.images("A", "one", 4))]

    def task():
        return make_task(learner, clip, "one", ["cat", "dog"], images, [0, 0, 1, 1])

    prepared = learner.prepare(clip, ["cat", "dog"])
    image, classes = (SECOND_ORDER * bytes_of(clip, prepared) for bytes_of in (learner.image_bytes, learner.class_bytes))
    assert (classes > 0) == (method == "promptsrc") and classes < 2 * image
    monkeypatch.setattr(clip, "memory", 2 * image + classes)
    assert task().at_once == 2
    say_if_too_large(task())
    assert not capsys.readouterr().err
    monkeypatch.setattr(clip, "memory", image + classes - 1)
    assert task().at_once == 1
    say_if_too_large(task())
    said = f"one: one image and its classes take about {(image + classes) / 2**30:.2g} GiB, more than --memory"
    assert said in capsys.readouterr().err


def test_classes_that_take_all_memory_leave_the_half_of_it_to_the_images(clip, recipe, monkeypatch):
    """Every part of a batch would compute them again."""
    learner = make_learner("coop", clip, 2, 4)
    monkeypatch.setattr(clip, "memory", 1000)
    images = [torch.from_numpy(recipe.images("A", "one", 4))]
    assert make_task(learner, clip, "one", ["cat", "dog"], images, [0, 0, 1, 1]).at_once == 500 // SECOND_ORDER


def test_as_many_steps_are_kept_as_fit_beside_one_that_is_computed_anew():
    task = Task("t", image_bytes=10, class_bytes=100, memory=1000)  # a step of a batch of 5: 150
    settings = MetaSettings("coop", inner_lr=0.1, batch=5, inner_steps=4)
    assert kept_graphs(task, settings) == 4 and kept_graphs(task._replace(memory=749), settings) == 3
    for memory, kept in ((750, 4), (600, 3), (450, 2), (449, 1), (300, 1), (299, 0), (1, 0)):
        assert kept_graphs(task._replace(memory=memory), settings) == kept
    assert kept_graphs(task._replace(memory=10**9), replace(settings, inner_steps=2)) == 2


@pytest.mark.parametrize("method", ["cocoop", "promptsrc"])
def test_a_step_costs_what_the_learner_says(method, clip, recipe, monkeypatch):
    """A task knows it; with room for all graphs the meta-prompt is that of room for none, but for rounding."""
    learner = make_learner(method, clip, 2, 2, torch.Generator().manual_seed(0))
    images = torch.from_numpy(recipe.images("A", "r", 6))
    found, passes, run = [], [], maml.run
    monkeypatch.setattr(maml, "run", lambda *args: passes.append(memory) or run(*args))
    for memory in (2**31, 1):
        monkeypatch.setattr(clip, "memory", memory)
        task = make_task(learner, clip, "t", ["cat", "red fox"], [images], [0, 0, 0, 1, 1, 1])
        config = MetaSettings(method, **METHODS[method].meta | {"epochs": 1, "inner_steps": 3, "support": 1, "batch": 2})
        assert kept_graphs(task, config) == (3 if memory > 1 else 0)
        state, = meta_train(learner, clip, [task], config)
        found.append(state.adam.mean)
    # Of a batch of 2, at once or one by one: 3 steps and a query; on the way back kept graphs, or 3 passes more.
    assert passes == [2**31] * 4 + [1] * 2 * 7
    tokens = 0 if method == "cocoop" else 7  # cat . EOT, red fox . EOT; CoCoOp takes them with every image
    assert task.class_bytes == SECOND_ORDER * tokens * clip.kept_bytes(clip.transformer)
    for name, one in found[0].items():
        torch.testing.assert_close(one, found[1][name], rtol=0, atol=3e-5 * float(one.abs().max()))
