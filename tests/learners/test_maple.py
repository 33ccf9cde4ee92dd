"""MaPLe and IVLP against the original implementations: features, loss, gradients, three steps of SGD; MaPLe's start."""
import json

import numpy as np
import pytest
import torch

from mp import finetune
from mp.clip.model import CLIP
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
            words = clip.token_embedding.weight.detach().numpy()
            near(learner_of(tag, clip).ctx, recipe_m.ctx(words, CASES[tag].get("n_ctx") or CASES[tag]["n_text"]), 0)


@pytest.mark.parametrize("tag, memory", [*((tag, MEMORY) for tag in CASES), ("maple3", 1), ("ivlp3", 1)])
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


def test_towers_bound_the_depths_of_both(clip):
    with pytest.raises(UserError, match="^prompt depth 4: out of range; these towers take 1 to 3"):
        MaPLe(clip, 4)
    with pytest.raises(UserError, match="^image prompt depth 4: out of range"):
        PromptSRC(clip, 2, image_depth=4)
