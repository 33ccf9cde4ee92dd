"""Logits, every loss term and every gradient of the three learners, against the original implementations."""
import numpy as np
import pytest
import torch

from mp.learners import prompts
from mp.learners.cocoop import CoCoOp
from mp.learners.coop import CoOp
from mp.learners.promptsrc import PromptSRC, loss_terms
from mp.runtime.device import MEMORY
from mp.runtime.errors import UserError

CASES = ["coop", "cocoop", "promptsrc3", "promptsrc2"]


def golden_learner(case, clip, recipe):
    """The learner in the state the golden numbers start from."""
    if case == "coop":
        return CoOp(clip)
    if case == "cocoop":
        learner = CoCoOp(clip)
        given = {f"meta_net.{k}": v for k, v in recipe.meta_net("A").items()}
    else:
        depth = int(case[-1])
        learner = PromptSRC(clip, depth)
        deep = recipe.deep_prompts("A", depth)
        given = {f"text.{i}": v for i, v in enumerate(deep["text"], 1)}
        given |= {f"vision.{i}": v for i, v in enumerate(deep["vision"])}
    state = learner.state_dict()
    assert set(state) == {"ctx", *given}
    learner.load_state_dict({"ctx": state["ctx"], **{k: torch.from_numpy(v) for k, v in given.items()}})
    return learner


def golden_batch(learner, clip, golden, recipe):
    classes = learner.prepare(clip, recipe.CLASSES["A"])
    images = torch.from_numpy(recipe.images("A", "batch", 6))
    return classes, learner.inputs(clip, images), torch.from_numpy(golden["labels"]).long()


def near(a, b, atol):
    np.testing.assert_allclose(a.detach().numpy(), b, rtol=0, atol=atol)


@pytest.mark.parametrize("case, memory", [*((case, MEMORY) for case in CASES), ("coop", 1), ("cocoop", 1), ("promptsrc3", 1)])
def test_golden(case, memory, clip, golden, recipe, monkeypatch):
    monkeypatch.setattr(clip, "memory", memory)  # of one byte: every prompt becomes its own chunk
    learner = golden_learner(case, clip, recipe)
    classes, inputs, labels = golden_batch(learner, clip, golden, recipe)
    class_prompts = classes.prompts if case.startswith("promptsrc") else classes
    assert len(class_prompts.chunks) == (1 if memory == MEMORY else 7)
    near(learner.ctx, golden[f"{case}/init/ctx"] if f"{case}/init/ctx" in golden else learner.ctx.detach(), 1e-7)
    near(learner.classifier(clip, class_prompts)(inputs[0]), golden[f"{case}/logits"], 1e-4)
    loss = learner(clip, classes, *inputs, labels)
    near(loss, golden[f"{case}/loss"], 1e-5)
    loss.backward()
    names = [k.removeprefix(f"{case}/grad/") for k in golden if k.startswith(f"{case}/grad/")]
    assert set(names) == {n for n, _ in learner.named_parameters()}
    for name, p in learner.named_parameters():
        expected = golden[f"{case}/grad/{name}"]
        near(p.grad, expected, 1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("images, passes", [(1, 6), (2, 3), (4, 2), (5, 2), (6, 0)])
def test_cocoops_images_that_have_room_together(images, passes, clip, golden, recipe, monkeypatch):
    """So many of the six, with all classes, in as many passes that are computed again; with room for all, in none."""
    calls, in_chunks = [], prompts.checkpoint
    monkeypatch.setattr(prompts, "checkpoint", lambda *args, **more: calls.append(1) or in_chunks(*args, **more))
    learner = golden_learner("cocoop", clip, recipe)
    classes, inputs, labels = golden_batch(learner, clip, golden, recipe)
    monkeypatch.setattr(clip, "memory", images * classes.tokens() * clip.kept_bytes(clip.transformer))
    loss = learner(clip, classes, *inputs, labels)
    near(loss, golden["cocoop/loss"], 1e-5)
    assert len(calls) == passes
    gradient, = torch.autograd.grad(loss, learner.ctx)
    near(gradient, golden["cocoop/grad/ctx"], 1e-4 * np.abs(golden["cocoop/grad/ctx"]).max())


@pytest.mark.parametrize("case", ["promptsrc3", "promptsrc2"])
def test_golden_terms_of_promptsrc(case, clip, golden, recipe):
    learner = golden_learner(case, clip, recipe)
    classes, (images, frozen), labels = golden_batch(learner, clip, golden, recipe)
    text, image = learner.text_features(clip, classes.prompts), learner.image_features(clip, images)
    near(text, golden[f"{case}/text_features"], 1e-5)
    near(image, golden[f"{case}/image_features"], 1e-5)
    near(classes.frozen, golden[f"{case}/frozen_text_features"], 1e-5)
    near(frozen, golden[f"{case}/frozen_image_features"], 1e-5)
    terms = loss_terms(clip, classes, text, image, frozen, labels)
    for name in ("ce", "text", "image", "kl"):
        near(terms[name], golden[f"{case}/loss_{name}"], 1e-5)


def test_promptsrc_of_depth_one_and_of_other_lengths(clip, recipe):
    images = torch.from_numpy(recipe.images("A", "batch", 2))
    for depth, length in ((1, 2), (2, 6)):
        learner = PromptSRC(clip, depth, length, torch.Generator().manual_seed(0))
        classes = learner.prepare(clip, ["cat", "sea or lake"])
        learner(clip, classes, *learner.inputs(clip, images), torch.tensor([0, 1])).backward()
        assert all(p.grad.abs().max() > 0 and len(p) == length for p in learner.parameters())


@pytest.mark.parametrize("names, message", [(["cat", "  "], "class 1 has an empty name"),
                                            (["_"], "empty name"),
                                            (["cat", "dog " * 80], "too long for CLIP.*dog dog")])
def test_class_names_that_cannot_be_used(clip, names, message):
    with pytest.raises(UserError, match=message):
        CoOp(clip).prepare(clip, names)
