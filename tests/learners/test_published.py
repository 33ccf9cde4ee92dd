"""Files as the methods' own code writes them: read as prompts, with the golden logits; nothing in them runs."""
import os
import pickle

import numpy as np
import pytest
import torch

from mp.learners import METHODS, learner_class, make_learner
from mp.clip.tokenizer import SOS
from mp.prompts import fitted, open_prompt, other_weights, write_prompt
from mp.runtime import torchfile
from mp.runtime.errors import UserError
from tests.conftest import GOLDEN
from tests.golden import recipe, recipe_m
from tests.learners.test_learners import golden_learner
from tests.learners.test_maple import learner_of

# What the originals call our tensors, written down once more from the description of their files.
IN_MAPLE = {"ctx": "prompt_learner.ctx", "proj.0.weight": "prompt_learner.proj.weight", "proj.0.bias": "prompt_learner.proj.bias",
            "text.1": "prompt_learner.compound_prompts_text.0", "text.2": "prompt_learner.compound_prompts_text.1",
            "proj.1.weight": "prompt_learner.compound_prompt_projections.0.weight",
            "proj.1.bias": "prompt_learner.compound_prompt_projections.0.bias",
            "proj.2.weight": "prompt_learner.compound_prompt_projections.1.weight",
            "proj.2.bias": "prompt_learner.compound_prompt_projections.1.bias"}
IN_PROMPTSRC = {"ctx": "prompt_learner.ctx", "vision.0": "image_encoder.VPT",
                "text.1": "text_encoder.transformer.resblocks.1.VPT_shallow", "text.2": "text_encoder.transformer.resblocks.2.VPT_shallow",
                "vision.1": "image_encoder.transformer.resblocks.1.VPT_shallow",
                "vision.2": "image_encoder.transformer.resblocks.2.VPT_shallow"}
CASES = {"coop": "coop", "cocoop": "cocoop", "promptsrc3": "promptsrc", "promptsrc2": "promptsrc", "maple3": "maple", "maple2": "maple",
         "maple1": "maple", "maple3n4": "maple", "maple2+ctx": "maple", "ivlp3": "promptsrc", "ivlp_v3x1_t2x2": "promptsrc",
         "ivlp_v0_t2x2": "promptsrc"}


class Evil:
    """What would leave a mark if it was unpickled as usual."""

    def __reduce__(self):
        return os.system, ("touch ran_code",)


def golden_of(case, clip):
    """The learner, and the golden numbers it stands for."""
    file = "A" if case in ("coop", "cocoop", "promptsrc3", "promptsrc2") else "M"
    with np.load(GOLDEN / f"golden_{file}.npz") as numbers:
        logits = numbers[f"{case}/logits"]
    return golden_learner(case, clip, recipe) if file == "A" else learner_of(case, clip), logits


def state_of(case, clip, names=None):
    """The `state_dict` that the originals keep, of a learner with the golden values."""
    method = CASES[case]
    learner, _ = golden_of(case, clip)
    names = names or {"maple": IN_MAPLE, "promptsrc": IN_PROMPTSRC}.get(method, {})
    state = {names.get(name, name): value.clone() for name, value in learner.state_dict().items()}
    prefix = "prompt_learner." if names else ""
    sos = clip.token_embedding.weight[SOS].detach()
    state |= {f"{prefix}token_prefix": sos.repeat(7, 1, 1), f"{prefix}token_suffix": torch.ones(7, 72, 128)}
    if names:
        for name, value in clip.state_dict().items():
            theirs = "image_encoder." + name.removeprefix("visual.") if name.startswith("visual.") else f"text_encoder.{name}"
            state["logit_scale" if name == "logit_scale" else theirs] = value.clone()
        state.pop("text_encoder.token_embedding.weight")
    if method == "promptsrc":
        state |= {f"prompt_learner.ZS_image_encoder.{k}": torch.zeros_like(v) for k, v in clip.visual.state_dict().items()}
    return state


def write(path, state, old=False, evil=False):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    content = {"state_dict": state, "epoch": 50, "optimizer": optimizer.state_dict(), "val_result": np.float64(71.5),
               "scheduler": {"successor": successor, "last_epoch": 3, "extra": {1, 2}}}
    if evil:
        content["evil"] = Evil()
    torch.save(content, path, _use_new_zipfile_serialization=not old)


def logits_of(path, clip):
    file = open_prompt(path)
    learner = make_learner(file.method, clip, **file.sizes)
    assert other_weights(file, clip) == ""
    learner.load_state_dict(fitted(file, file.method, learner.state_dict()))
    classes = learner.prepare(clip, recipe.CLASSES["A"])
    inputs = learner.inputs(clip, torch.from_numpy(recipe.images("A", "batch", 6)))
    prompts = getattr(classes, "prompts", classes)
    return file, learner.classifier(clip, prompts)(inputs[0]).detach().numpy()


@pytest.mark.parametrize("case, old", [*((case, False) for case in CASES), ("coop", True), ("promptsrc3", True)])
def test_a_published_prompt_gives_the_golden_logits(case, old, clip, tmp_path, capsys):
    path = tmp_path / "model.pth.tar-50"
    write(path, {f"module.{k}" if old else k: v for k, v in state_of(case, clip).items()}, old)
    file, logits = logits_of(path, clip)
    np.testing.assert_allclose(logits, golden_of(case, clip)[1], rtol=0, atol=1e-4)
    assert file.method == CASES[case] and (len(file.frozen) > 1) == (CASES[case] in ("maple", "promptsrc")) and "sos" in file.frozen
    said = capsys.readouterr().err
    assert f"{path}: a prompt of {METHODS[file.method].title}, as its own code writes it" in said


@pytest.mark.parametrize("case", ["coop", "maple3", "promptsrc3"])
def test_half_precision_is_widened(case, clip, tmp_path):
    path = tmp_path / "model-best.pth.tar"
    write(path, {name: value.half() for name, value in state_of(case, clip).items()})
    file, logits = logits_of(path, clip)
    assert {value.dtype for value in file.params.values()} == {torch.float32}
    np.testing.assert_allclose(logits, golden_of(case, clip)[1], rtol=0, atol=1e-2)


@pytest.mark.parametrize("old", [False, True])
def test_nothing_in_a_file_runs(old, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model.pth.tar-1", state_of("coop", clip), old, evil=True)
    assert logits_of(tmp_path / "model.pth.tar-1", clip)[0].method == "coop"
    assert not (tmp_path / "ran_code").exists()
    torch.load(tmp_path / "model.pth.tar-1", weights_only=False)
    assert (tmp_path / "ran_code").exists()  # as usual, it would have


@pytest.mark.parametrize("content", ["script", "tar", "pickle"])
def test_other_containers_of_code_are_not_opened(content, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth.tar-1"
    if content == "script":
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    elif content == "tar":
        import tarfile
        (tmp_path / "x").write_text("x")
        with tarfile.open(path, "w") as archive:
            archive.add("x")
    else:
        path.write_bytes(pickle.dumps({"state_dict": {"ctx": Evil()}}))
    with pytest.raises((ValueError, UserError)):
        torchfile.load(path, objects=True)
    with pytest.raises(UserError):
        open_prompt(path)
    assert not (tmp_path / "ran_code").exists()


def test_sixteen_vectors_and_class_specific_ones(clip, tmp_path):
    path = tmp_path / "model.pth.tar-50"
    write(path, {"ctx": torch.randn(16, 128), "token_prefix": clip.token_embedding.weight[SOS].detach().repeat(7, 1, 1)})
    file, logits = logits_of(path, clip)
    assert file.shape == {"length": 16} and logits.shape == (6, 7)
    write(path, {"ctx": torch.randn(7, 16, 128)})
    with pytest.raises(UserError, match="class-specific, 16 vectors of 7 classes; prompts here are shared by all classes; give another file"):
        open_prompt(path)


@pytest.mark.parametrize("state", [{}, {"weight": torch.ones(2)}, {"prompt_learner.proj.weight": torch.ones(2, 2)}, {"ctx": "words"}])
def test_a_checkpoint_without_a_prompt(state, tmp_path):
    write(tmp_path / "c.pt", state)
    with pytest.raises(UserError, match="c.pt: holds no prompt of CoOp, CoCoOp, PromptSRC"):
        open_prompt(tmp_path / "c.pt")


CTX = {"prompt_learner.ctx": torch.ones(4, 128)}
TEXT, VISION = (f"{tower}_encoder.transformer.resblocks.{{}}.VPT_shallow" for tower in ("text", "image"))
BESIDE = {
    "a CoCoOp in a whole model": ({"prompt_learner.meta_net.linear1.weight": torch.ones(4, 64)}, "meta_net.linear1.weight"),
    "CoOp's and PromptSRC's": ({"ctx": torch.zeros(4, 128), "image_encoder.VPT": torch.ones(4, 128)}, "ctx beside a prompt of PromptSRC"),
    "MaPLe's coupling": ({"image_encoder.VPT": torch.ones(4, 128), TEXT.format(1): torch.ones(4, 128),
                          "prompt_learner.proj.weight": torch.ones(128, 128)}, "prompt_learner.proj.weight beside a prompt of Prompt"),
    "one that begins as CLIP's": ({"logit_scale_extra": torch.ones(())}, "logit_scale_extra beside a prompt of"),
    "one that begins as class names": ({"prompt_learner.token_suffix_more": torch.ones(2)}, "token_suffix_more beside a prompt of"),
    "one with module., one without": ({"module.prompt_learner.ctx": torch.zeros(4, 128)}, "prompt_learner.ctx twice, also as module.prompt_learner.ctx")}


@pytest.mark.parametrize("what", BESIDE)
def test_what_belongs_to_no_prompt_is_not_dropped(what, tmp_path):
    more, says = BESIDE[what]
    write(tmp_path / "p.pt", CTX | more)
    with pytest.raises(UserError, match=f"p.pt: holds .*{says}.*; give another file"):
        open_prompt(tmp_path / "p.pt")


def test_what_a_clip_beside_the_prompt_has_more_is_not_dropped(clip, tmp_path):
    state = state_of("maple2", clip)
    for name, ours in ((VISION.format(1), "visual.transformer.resblocks.1.VPT_shallow"), ("text_encoder.adapter", "adapter"),
                       ("image_encoder.adapter.fc.weight", "visual.adapter.fc.weight")):
        write(tmp_path / "p.pt", state | {name: torch.ones(2, 128), "logit_scale": torch.zeros(())})  # which differs
        with pytest.raises(UserError, match=f"p.pt: holds {ours}, which this CLIP has none of; give another file"):
            other_weights(open_prompt(tmp_path / "p.pt"), clip)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [torch.ones(4, 128).int(), torch.ones(4, 128).bool(), torch.ones(4, 128) * 1j,
                                   torch.ones(1).half().expand(10**12, 128)], ids=["int", "bool", "complex", "huge"])
def test_tensors_that_are_no_prompt(value, tmp_path):
    for state in ({"ctx": value}, CTX | {"text_encoder.positional_embedding": value}):
        write(tmp_path / "p.pt", state)
        with pytest.raises(UserError, match="isn't a plain tensor of floating-point numbers; give another file"):
            open_prompt(tmp_path / "p.pt")


@pytest.mark.parametrize("state", [{"ctx": torch.ones(())}, {"ctx": torch.ones(0, 128)}])
def test_a_context_without_vectors(state, tmp_path):
    write(tmp_path / "p.pt", state)
    write_prompt(tmp_path / "own.pt", "coop", state, {}, {})
    for file in ("p.pt", "own.pt"):
        with pytest.raises(UserError, match=f"{file}: its ctx holds no vectors; give another file"):
            open_prompt(tmp_path / file)


def test_names_that_are_no_words(tmp_path):
    write(tmp_path / "p.pt", {5: torch.ones(4, 128), "ctx": torch.ones(4, 128)})
    with pytest.raises(UserError, match="p.pt: holds 5 beside a prompt of CoOp"):
        open_prompt(tmp_path / "p.pt")


@pytest.mark.parametrize("layers", [[TEXT.format(2)], [VISION.format(1)], ["image_encoder.VPT", VISION.format(2)]])
def test_a_layer_that_is_left_out_is_missed(layers, clip, tmp_path):
    write(tmp_path / "p.pt", CTX | {name: torch.ones(4, 128) for name in layers})
    file = open_prompt(tmp_path / "p.pt")
    learner = make_learner(file.method, clip, **file.sizes)
    with pytest.raises(UserError, match="p.pt: holds (no|also) (text|vision).[012]; give"):
        fitted(file, file.method, learner.state_dict())


def test_the_frozen_clip_beside_the_prompt_is_compared(clip, tmp_path):
    state = state_of("promptsrc3", clip)
    rng = torch.Generator().manual_seed(0)
    averaged = {name: value * (1 + 0.002 * torch.rand(value.shape, generator=rng)) for name, value in state.items()}
    write(tmp_path / "p.pt", averaged)
    assert other_weights(open_prompt(tmp_path / "p.pt"), clip) == ""
    for name, ours in (("image_encoder.conv1.weight", "visual.conv1.weight"), ("text_encoder.ln_final.bias", "ln_final.bias"),
                       ("logit_scale", "logit_scale")):
        for other in (state[name] + 0.1, torch.full_like(state[name], torch.nan)):
            write(tmp_path / "p.pt", state | {name: other})
            assert other_weights(open_prompt(tmp_path / "p.pt"), clip) == f"{ours} differs"
    write(tmp_path / "p.pt", state | {"text_encoder.text_projection": torch.ones(2, 2)})
    assert other_weights(open_prompt(tmp_path / "p.pt"), clip) == "text_projection differs"


def test_layers_are_sorted_as_numbers(tmp_path):
    names = {f"text_encoder.transformer.resblocks.{i}.VPT_shallow": torch.full((4, 8), float(i)) for i in (10, 2, 1, 9, 3, 4, 5, 6, 7, 8)}
    names |= {"prompt_learner.ctx": torch.zeros(4, 8), "image_encoder.VPT": torch.zeros(4, 8)}
    write(tmp_path / "p.pt", names)
    file = open_prompt(tmp_path / "p.pt")
    assert file.shape == {"length": 4, "depth": 11}
    assert file.sizes == {"length": 4, "depth": 11, "image_depth": 1, "image_length": 4}
    assert [float(file.params[f"text.{i}"].mean()) for i in range(1, 11)] == list(range(1, 11))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_with_code_of_its_own_names_all_its_tensors(method, clip):
    kind = learner_class(method)
    assert not kind.published_as or make_learner(method, clip, 3, 4).state_dict().keys() <= kind.published().keys()


def test_the_folders_that_their_own_code_keeps_prompts_in():
    folders = {"coop": "prompt_learner", "cocoop": "prompt_learner", "promptsrc": "VLPromptLearner", "maple": "MultiModalPromptLearner"}
    assert folders == {method: learner_class(method).published_as for method in folders}
