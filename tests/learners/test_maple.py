"""MaPLe and IVLP against the original implementations: features, loss, gradients, three steps of SGD; MaPLe's start."""
import json

import numpy as np
import pytest
import torch

from mp import finetune
from mp.clip.model import CLIP
from mp.learners import METHODS, make_learner
from mp.learners.coop import CoOp
from mp.learners.maple import MaPLe
from mp.learners.promptsrc import PromptSRC
from mp.runtime.device import MEMORY
from mp.runtime.errors import UserError
from mp.settings import FinetuneSettings
from tests.conftest import GOLDEN
from tests.golden import recipe, recipe_m

CASES = recipe_m.cases("A")
TRAINED = [tag for tag, case in CASES.items() if case["train"]]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "golden_M.npz") as f:
        return dict(f)


class IVLP(PromptSRC):
    """PromptSRC's ablation: its tensors, with cross-entropy alone."""
    prepare, inputs, forward = CoOp.prepare, MaPLe.inputs, CoOp.forward


def learner_of(tag: str, clip: CLIP) -> MaPLe | IVLP:
    """In the state the golden numbers start from."""
    case = CASES[tag]
    if case["kind"] == "maple":
        learner = MaPLe(clip, case["depth"], case["n_ctx"])
    else:
        learner = IVLP(clip, case["depth_text"], case["n_text"], image_depth=case["depth_vision"],
                       image_length=case["n_vision"])
    state = learner.state_dict()
    given = {name: torch.from_numpy(value) for name, value in recipe_m.learnables("A", case).items()}
    assert state.keys() == {"ctx", *given}
    if case.get("noise"):
        given["ctx"] = state["ctx"] + torch.from_numpy(recipe_m.ctx_noise("A", len(state["ctx"])))
    learner.load_state_dict(state | given)
    return learner


def batch(number: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = recipe_m.batch("A") if number is None else recipe_m.step_batch("A", number)
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def near(found, expected, atol):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=atol)


def unit(features):
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def test_the_start_is_the_originals(clip):
    about = json.loads((GOLDEN / "golden_M.json").read_text())["cases"]
    for tag, case in about.items():
        own = {name: list(p.shape) for name, p in learner_of(tag, clip).named_parameters()}
        assert own == {name: one["shape"] for name, one in case["learnables"].items()}
        if not CASES[tag].get("noise"):
            words = recipe.clip_state("A")["token_embedding.weight"]
            near(learner_of(tag, clip).ctx, recipe_m.ctx(words, CASES[tag].get("n_ctx") or CASES[tag]["n_text"]), 0)


@pytest.mark.parametrize("memory", [MEMORY, 1], ids=["whole", "chunks"])
@pytest.mark.parametrize("tag", CASES)
def test_golden(tag, memory, clip, golden, monkeypatch):
    monkeypatch.setattr(clip, "memory", memory)
    learner, (images, labels) = learner_of(tag, clip), batch()
    classes = prompts = learner.prepare(clip, recipe.CLASSES["A"])
    near(learner.text_features(clip, prompts), unit(golden[f"{tag}/text_features"]), 2e-5)
    near(learner.image_features(clip, images), unit(golden[f"{tag}/image_features"]), 2e-5)
    inputs = learner.inputs(clip, images)
    near(learner.classifier(clip, prompts)(inputs[0]), golden[f"{tag}/logits"], 1e-4)
    if CASES[tag]["kind"] == "maple":
        for i, prompt in enumerate(learner.image_prompts()):
            near(prompt, golden[f"{tag}/vision_prompt/{i}"], 1e-5)
    loss = learner(clip, classes, *inputs, labels)
    near(loss, golden[f"{tag}/loss"], 1e-5)
    loss.backward()
    assert {k.removeprefix(f"{tag}/grad/") for k in golden if k.startswith(f"{tag}/grad/")} == dict(
        learner.named_parameters()).keys()
    for name, p in learner.named_parameters():
        expected = golden[f"{tag}/grad/{name}"]
        near(p.grad, expected, 1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("decay, place", [(5e-4, "after3"), (0.1, "wd")])
@pytest.mark.parametrize("tag", TRAINED)
def test_golden_after_three_steps(tag, decay, place, clip, golden, monkeypatch):
    monkeypatch.setattr(finetune, "learning_rate", lambda epoch, epochs, lr: lr)  # the main rate, not the warm-up's
    learner = learner_of(tag, clip)
    classes = learner.prepare(clip, recipe.CLASSES["A"])
    settings = FinetuneSettings("maple", epochs=1, lr=0.0035, batch=4, weight_decay=decay)
    state, = finetune.finetune(learner, clip, classes, lambda epoch: [batch(k) for k in range(3)], settings)
    np.testing.assert_allclose(state.numbers["losses"], golden[f"{tag}/{place}/losses"], rtol=0, atol=1e-5)
    for name, value in state.prompt.items():
        near(value, golden[f"{tag}/{place}/{name}"], 1e-6)
    learner.load_state_dict(state.prompt)
    near(learner.classifier(clip, classes)(batch()[0]), golden[f"{tag}/{place}/logits"], 1e-4)


def test_couplings_start_as_the_original_draws_them(clip):
    learner = MaPLe(clip, 3, 2, torch.Generator().manual_seed(5))
    first, second, third = learner.proj
    for a, b in zip(second.parameters(), third.parameters()):
        assert torch.equal(a, b) and a is not b
    assert not torch.equal(first.weight, second.weight)
    bound = 128**-0.5  # of torch's own start
    for coupling in (first, second):
        for p in coupling.parameters():
            assert p.abs().max() <= bound and abs(float(p.detach().std()) - bound / 3**0.5) < 0.2 * bound
    assert torch.equal(learner.ctx, PromptSRC(clip, 1, 2).ctx)
    drawn = MaPLe(clip, 3, 6, torch.Generator().manual_seed(5)).ctx
    assert drawn.shape == (6, 128) and 0.015 < float(drawn.detach().std()) < 0.025


def test_six_vectors_leave_no_word_of_the_start(clip):
    learner = MaPLe(clip, 2, 6, torch.Generator().manual_seed(0))
    prompts = learner.prepare(clip, ["cat"])
    assert prompts.prefix(learner.ctx[None]).shape == (1, 7, 128)
    assert prompts.prefix(learner.ctx[None, :2]).shape == (1, 5, 128)
    with pytest.raises(UserError, match="prompt depth 4: out of range"):
        MaPLe(clip, 4)
    with pytest.raises(UserError, match="image prompt depth 4: out of range"):
        PromptSRC(clip, 2, image_depth=4)


def test_its_row_makes_it_as_its_paper_has_it(clip):
    row = METHODS["maple"]
    assert row.meta == {"inner_lr": 0.02 / 6, "batch": 32} == METHODS["promptsrc"].meta and row.prompt == {"length": 2}
    assert row.finetune == {"epochs": 5, "lr": 0.0035, "batch": 4}
    learner = make_learner("maple", clip, 2, **row.prompt, image_depth=1)  # which isn't for it
    assert len(learner.ctx) == 2 and len(learner.proj) == 2


def test_at_vit_b16s_size_it_learns_3_55_million_numbers():
    with torch.device("meta"):
        clip = CLIP(image_size=224, patch=16, image_width=768, image_layers=12, text_width=512, text_layers=12, embed=512)
    clip.token_embedding = torch.nn.Embedding(49408, 512)
    clip.logit_scale = torch.nn.Parameter(torch.zeros(()))
    assert sum(p.numel() for p in MaPLe(clip).parameters()) == 9 * (512 * 768 + 768) + 9 * 2 * 512  # 3.55 M
