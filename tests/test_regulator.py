"""The gradient regulator: the identity at its start, and the exact meta-gradient for prompt and φ."""
import json
from functools import partial

import pytest
import torch

from mp import finetune, maml, meta, regulator
from mp.learners import METHODS, make_learner
from mp.prompts import open_prompt
from mp.settings import FinetuneSettings, MetaSettings
from mp.tasks import draw_batches, make_task
from tests.test_maml import STEPS_KEPT, equals_one_graph, in_halves, problem, whole
from tests.walks.small import run


def a_regulator(params, seed=0, scale=0.5):
    """φ that does something."""
    phi = regulator.start(params, seed)
    generator = torch.Generator().manual_seed(seed)
    return {k: v + scale * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in phi.items()}


def test_it_is_the_formula():
    grad = {"a": torch.randn(3, 5), "b": torch.randn(4), "c": torch.tensor(3.0)}
    phi = a_regulator(grad)
    step = regulator.regulate(phi, grad)
    for name, g in grad.items():
        assert step[name].shape == g.shape
        width = g.shape[-1] if g.dim() else 1
        for vector, found in zip(g.view(-1, width), step[name].view(-1, width)):
            hidden = torch.clamp(phi[f"regulator.{name}.down"] @ vector, min=0)
            torch.testing.assert_close(found, vector + phi[f"regulator.{name}.up"] @ hidden)
        assert (step[name] - g).abs().max() > 0.1


def test_it_starts_as_the_identity():
    params = {"ctx": torch.randn(4, 128), "net.bias": torch.randn(9)}
    phi = regulator.start(params, 3)
    step = regulator.regulate(phi, params)
    assert all(torch.equal(step[k], params[k]) for k in params)
    assert sum(v.numel() for v in phi.values()) == 2 * 8 * (128 + 9)
    assert regulator.split(params | phi) == (params, phi) and regulator.split(params)[1] == {}
    drawn = torch.randn(8, 128, generator=torch.Generator().manual_seed(3))  # as a prompt that starts at random
    assert abs(torch.corrcoef(torch.stack([drawn.flatten(), phi["regulator.ctx.down"].flatten()]))[0, 1]) < 0.2
    again, other = regulator.start(params, 3), regulator.start(params, 4)
    assert all(torch.equal(phi[k], again[k]) for k in phi) and not torch.equal(phi["regulator.ctx.down"], other["regulator.ctx.down"])


def regulated(inner_lr):
    """The update p - α (g + up · relu(down · g)), written out once more for vectors in rows."""
    def update(p, grad):
        stepped = {}
        for name, g in grad.items():
            down, up = p[f"regulator.{name}.down"], p[f"regulator.{name}.up"]
            stepped[name] = p[name] - inner_lr * (g + torch.clamp(g @ down.T, min=0) @ up.T)
        return p | stepped

    return update


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("divide", [whole, in_halves])
@pytest.mark.parametrize("steps, kept", STEPS_KEPT)
def test_equals_autograd_through_all_steps(steps, kept, divide, first_order):
    phi = a_regulator(problem()[1])
    equals_one_graph(regulator.sgd(0.3), regulated(0.3), phi, steps, kept, divide, first_order)


@pytest.mark.parametrize("method", ["cocoop", "promptsrc"])
def test_the_first_epoch_is_plain_mamls_to_the_bit(method, clip, recipe):
    learner = make_learner(method, clip, 2, 2, torch.Generator().manual_seed(0))
    images = torch.from_numpy(recipe.images("A", "r", 6))
    task = make_task(learner, clip, "t", ["cat", "red fox"], [images], [0, 0, 0, 1, 1, 1])
    row = METHODS[method].meta | {"epochs": 2, "inner_steps": 2, "support": 1, "batch": 2, "clip_norm": float("inf")}
    plain = list(meta.meta_train(learner, clip, [task], MetaSettings(method, **row)))
    fresh = meta.start(learner)
    params = fresh.params | regulator.start(fresh.params, 1)
    fresh = fresh._replace(params=params, adam=maml.adam_start(params))
    settings = MetaSettings(method, **row, regulator=True)
    ours = list(meta.meta_train(learner, clip, [task], settings, fresh, regulator.sgd))
    own, phi = regulator.split(ours[0].params)
    assert all(torch.equal(own[k], plain[0].params[k]) for k in own)
    assert any((phi[k] - params[k]).abs().max() > 0 for k in phi) and ours[0].numbers["zero_gradients"] == []
    assert not all(torch.equal(ours[1].params[k], plain[1].params[k]) for k in own)
    # Steps of the other kind are refused, not taken.
    for state, make_update in ((fresh, maml.sgd), (meta.start(learner), regulator.sgd)):
        with pytest.raises(KeyError, match="regulator."):
            next(meta.meta_train(learner, clip, [task], settings, state, make_update))


def test_fine_tuning_passes_its_gradients_through_it(clip, recipe):
    learner = make_learner("coop", clip)
    classes = learner.prepare(clip, ["cat", "red fox"])
    images = torch.from_numpy(recipe.images("A", "r", 4))
    settings = FinetuneSettings("coop", epochs=1, lr=0.1, batch=4)
    phi = a_regulator(dict(learner.named_parameters()))
    state, = finetune.finetune(learner, clip, classes, lambda epoch: [(images, torch.tensor([0, 1, 1, 0]))], settings,
                               direction=partial(regulator.regulate, phi))
    ctx = learner.ctx.detach().clone().requires_grad_()
    loss = maml.run(learner, {"ctx": ctx}, clip, classes, *learner.inputs(clip, images), torch.tensor([0, 1, 1, 0]))
    grad, = torch.autograd.grad(loss, ctx)
    expected = ctx - 1e-5 * (regulator.regulate(phi, {"ctx": grad})["ctx"] + 5e-4 * ctx)  # the first epoch's rate
    torch.testing.assert_close(state.params["ctx"], expected.detach(), rtol=0, atol=1e-9)
    assert (regulator.regulate(phi, {"ctx": grad})["ctx"] - grad).abs().max() > 1e-3


def test_from_the_command_line(tmp_path):
    """It is kept in the prompt's file, counts in what the prompt is known by, and fine-tuning takes it from there."""
    run(tmp_path, "meta --method coop --regulator --datasets pets")
    prompt, = tmp_path.glob("runs/mini/meta/coop-seed1-regulatorTrue-*/prompt.pt")
    content = torch.load(prompt, weights_only=True)
    phi = content["regulator"]
    assert set(content["params"]) == {"ctx"} and set(phi) == {"regulator.ctx.down", "regulator.ctx.up"}
    assert phi["regulator.ctx.up"].abs().max() > 0
    phi["regulator.ctx.up"] += 1.0
    torch.save(content, tmp_path / "other.pt")
    assert open_prompt(tmp_path / "other.pt").fingerprint != open_prompt(prompt).fingerprint
    for init in (prompt, "other.pt"):
        run(tmp_path, f"finetune --init {init} --datasets pets")
    files = tmp_path.glob("runs/mini/finetune/coop-*/pets-seed1-*.json")
    losses = [json.loads(file.read_text())["losses"] for file in files]
    assert len(losses) == 2 and losses[0] != losses[1]
    shown = run(tmp_path, f"show {prompt} --export theirs.pt")
    assert "2,048 numbers beside the prompt's" in shown.out
    assert "theirs.pt: the prompt's regulator is left out" in shown.err
    del phi["regulator.ctx.up"]
    torch.save(content, tmp_path / "bad.pt")
    refused = run(tmp_path, "zeroshot --prompt bad.pt --datasets pets", code=2).err
    assert "bad.pt: its regulator holds regulator.ctx.down, not regulator.ctx.down, regulator.ctx.up; give" in refused


def test_over_tasks_phi_is_averaged_and_clipped_with_the_prompt(clip, recipe):
    """Adam's running mean after an epoch is a tenth of G, the mean over tasks of p's and φ's gradients, clipped as one."""
    learner, made = make_learner("coop", clip), []
    for number in range(2):
        images = torch.from_numpy(recipe.images("A", f"task{number}", 6))
        made.append(make_task(learner, clip, f"t{number}", ["cat", "red fox"], [images], [0, 0, 0, 1, 1, 1]))
    settings = MetaSettings("coop", inner_lr=0.1, epochs=1, inner_steps=2, support=1, batch=2,
                            clip_norm=0.05, regulator=True)
    fresh = meta.start(learner)
    own, phi = fresh.params, a_regulator(fresh.params)
    fresh = fresh._replace(params=own | phi, adam=maml.adam_start(own | phi))
    state, = meta.meta_train(learner, clip, made, settings, fresh, regulator.sgd)
    each = []
    for number, task in enumerate(made):
        support, query = draw_batches(task, settings, 0, number)
        loss, update = meta.loss_of(task, learner, clip), regulator.sgd(settings.inner_lr)
        each.append(maml.meta_gradient(loss, own | phi, support, query, update, list(own))[1])
    G = {name: (each[0][name] + each[1][name]) / 2 for name in each[0]}
    norm = torch.cat([g.flatten() for g in G.values()]).norm()
    assert norm > 0.05 and abs(state.numbers["grad_norm"] - float(norm)) < 1e-5 * float(norm)
    for name, g in G.items():
        torch.testing.assert_close(state.adam.mean[name], 0.1 * g * 0.05 / norm, rtol=1e-4, atol=1e-9)
    assert max(G[name].norm() for name in phi) > 0.1 * norm


def test_its_hidden_numbers_start_as_large_as_the_gradients():
    """Of a random direction, for a vector of any width: `down` keeps the size, so its rows have a length of about 1."""
    for width in (64, 512):
        down = regulator.start({"ctx": torch.zeros(4, width)}, 1)["regulator.ctx.down"]
        assert (down.norm(dim=1) - 1).abs().max() < 0.35
