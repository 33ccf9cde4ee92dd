"""Prompt files of this project: what is kept, what fits, and that a prompt of another CLIP, or of another form, is told."""
import pytest
import torch
from PIL import Image

import run as program
from data.miniature import suite
from mp import api
from mp.clip import weights
from mp.clip.tokenizer import SOS
from mp.learners import METHODS, learner_class, make_learner
from mp.prompts import fitted, learner_of, open_prompt, write_prompt
from mp.runtime import progress, torchfile
from mp.runtime.errors import UserError
from mp.settings import PromptSettings

PUBLISHED = [method for method in METHODS if learner_class(method).published_as]


def test_a_prompts_fingerprint_is_of_its_tensors_alone(tmp_path):
    path, params = tmp_path / "p.pt", {"ctx": torch.arange(6.0).view(2, 3), "text.1": torch.ones(2)}
    backwards = dict(reversed(params.items()))
    found = []
    for method, values, about in (("coop", params, {"command": "a"}), ("coop", params, {"command": "bc"}),
                                  ("coop", backwards, {}), ("cocoop", params, {}),
                                  ("coop", params | {"ctx": params["ctx"].view(3, 2)}, {}),
                                  ("coop", params | {"ctx": params["ctx"] + 1}, {}),
                                  ("coop", {"ctx": params["ctx"], "text.2": params["text.1"]}, {})):
        write_prompt(path, method, values, about, about)
        found.append(open_prompt(path).fingerprint)
    assert found[0] == found[1] == found[2] and len(set(found)) == 5
    for content in ({}, {"params": 3}, {"params": {}}, {"params": {"ctx": [1.0]}}, {"params": {"ctx": torch.eye(2).to_sparse()}}):
        torchfile.write(path, {"method": "coop"} | content)
        with pytest.raises(UserError, match="not a prompt file"):
            open_prompt(path)


def read_prompt(path, method, expected):
    return fitted(open_prompt(path), method, expected)


def test_a_prompt_file_in_another_order_is_read_by_name(tmp_path):
    expected = {"ctx": torch.zeros(2), "vision.2": torch.zeros(2), "vision.10": torch.zeros(2)}
    values = {k: torch.full((2,), float(i)) for i, k in enumerate(expected)}
    write_prompt(tmp_path / "p.pt", "promptsrc", dict(sorted(values.items())), {}, {})
    read = read_prompt(tmp_path / "p.pt", "promptsrc", expected)
    assert list(read) == list(expected) and all(torch.equal(read[k], values[k]) for k in expected)


def deep_params(depth, length, width=8):
    layers = [f"text.{i}" for i in range(1, depth)] + [f"vision.{i}" for i in range(depth)]
    return {name: torch.zeros(length, width) for name in ["ctx", *layers]}


@pytest.mark.parametrize("params, says", [
    (deep_params(3, 4), "holds no text.3"), (deep_params(9, 4) | {"text.9": torch.zeros(4, 8)}, "holds also text.9"),
    (deep_params(9, 8), "ctx is [8, 8], this model needs [4, 8]"), ({"ctx": torch.zeros(4, 8)}, "holds no text.1"),
    (deep_params(9, 4) | {"text.3": torch.zeros(8, 8)}, "text.3 is [8, 8], this model needs [4, 8]")])
def test_a_prompt_that_does_not_fit_is_refused(params, says, tmp_path):
    write_prompt(tmp_path / "p.pt", "promptsrc", params, {}, {})
    with pytest.raises(UserError) as error:
        read_prompt(tmp_path / "p.pt", "promptsrc", deep_params(9, 4))
    assert str(error.value).startswith(f"{tmp_path}/p.pt: {says}; give the --weights that it was made with, no --depth")


@pytest.mark.parametrize("ctx, says", [(torch.full((4, 8), torch.inf), "NaN or infinite values"),
                                       (torch.zeros(4, 8).half(), "torch.float16, not torch.float32")])
def test_a_prompt_of_other_numbers_is_refused(ctx, says, tmp_path):
    write_prompt(tmp_path / "p.pt", "promptsrc", deep_params(9, 4) | {"ctx": ctx}, {}, {})
    with pytest.raises(UserError, match=f"p.pt: ctx holds {says}; give another file, or the command that made it again with --force"):
        read_prompt(tmp_path / "p.pt", "promptsrc", deep_params(9, 4))


def their_checkpoint():
    """As other trainers write one, whose scheduler's dict holds whole objects."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    return {"model": {"ctx": torch.zeros(4, 8)}, "optimizer": optimizer.state_dict(), "scheduler": {"successor": scheduler}}


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_of_another_project_is_named(old, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(their_checkpoint(), path, _use_new_zipfile_serialization=not old)
    with pytest.raises(UserError) as error:
        open_prompt(path)
    text = str(error.value)
    assert f"{path}: a checkpoint of another project" in text and "give a prompt that `run.py meta` or `finetune` wrote" in text
    assert "delete" not in text and "damaged" not in text and "CosineAnnealingLR" in text


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02}q\x00.", b"{}", bytes(range(256)) * 9, "cut", "tensor"])
def test_a_file_that_the_user_names_stays(content, tmp_path):
    path = tmp_path / "p.pt"
    torch.save(torch.zeros(3) if content == "tensor" else their_checkpoint(), path)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-99])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(UserError, match="; give a prompt that|not a prompt file; `run.py meta` writes one") as error:
        open_prompt(path)
    assert "delete" not in str(error.value).removeprefix(str(tmp_path))


# A prompt that was learnt with another CLIP

@pytest.fixture(scope="module")
def mini():
    return weights.load(suite.WEIGHTS)


@pytest.fixture(scope="module")
def other(mini, tmp_path_factory):
    """A CLIP of the same shape and other numbers, and its file."""
    path = tmp_path_factory.mktemp("other") / "other.pt"
    torch.save({name: value * 1.1 for name, value in mini.state_dict().items()}, path)
    return weights.load(path), path


def checkpoint(method, clip, path, change=lambda value: value):
    """As the method's own code writes it: with its CLIP's SOS embedding, or all of CLIP."""
    kind = learner_class(method)
    names = kind.published()
    state = {names[name]: value for name, value in make_learner(method, clip, 3, 4).state_dict().items()}
    prefix = "prompt_learner." if names["ctx"] != "ctx" else ""
    state[f"{prefix}token_prefix"] = clip.token_embedding.weight[SOS].detach().repeat(5, 1, 1)
    if prefix:
        state |= {f"image_encoder.{name}": value for name, value in clip.visual.state_dict().items()}
    torch.save({"state_dict": {name: change(value) for name, value in state.items()}}, path)
    return path


def said_of(path, clip, capsys):
    file = open_prompt(path)
    capsys.readouterr()
    learner_of(PromptSettings(file.method, **file.shape), clip, file)
    return [line for line in capsys.readouterr().err.splitlines() if "learnt with other weights" in line]


@pytest.mark.parametrize("change", [lambda value: value, torch.Tensor.half], ids=["float32", "half"])
@pytest.mark.parametrize("method", PUBLISHED)
def test_a_checkpoint_of_another_clip_is_told(method, change, mini, other, tmp_path, capsys):
    right, wrong = (checkpoint(method, clip, tmp_path / f"{i}.pt", change) for i, clip in enumerate((mini, other[0])))
    assert said_of(right, mini, capsys) == [] == said_of(wrong, other[0], capsys)
    line, = said_of(wrong, mini, capsys)
    assert line.startswith(f"{wrong}: learnt with other weights of CLIP than these (") and "differs); here it may mean little" in line


def test_what_a_file_says_of_its_weights_is_one_line_of_plain_text(mini, tmp_path, capsys):
    params = make_learner("coop", mini).state_dict()
    write_prompt(tmp_path / "p.pt", "coop", params, {}, {"clip": "x\nnot: a line\x1b[31m" + "r" * 99})
    line, = said_of(tmp_path / "p.pt", mini, capsys)
    assert r"these (x\nnot: a line\x1b[31m" + "r" * 22 + ", now " in line


def test_weights_that_are_saved_anew_in_half_precision_are_the_same(mini, tmp_path, capsys):
    api.save_prompt(api.make_learner("coop", mini), tmp_path / "p.pt")
    torch.save({name: value.half() for name, value in mini.state_dict().items()}, tmp_path / "half.pt")
    saved = weights.load(tmp_path / "half.pt")
    assert saved.sha256 != mini.sha256 and saved.mark() == mini.mark()
    assert not said_of(tmp_path / "p.pt", saved, capsys)


@pytest.mark.parametrize("command", ["predict a.png --names cat dog --prompt p.pt", "show p.pt"])
def test_commands_tell_it_once_and_go_on(command, mini, other, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint("coop", mini, tmp_path / "p.pt")
    Image.fromarray(suite.load("pets").test[0].source).save(tmp_path / "a.png")
    progress.say_once.cache_clear()
    assert program.main(command.split()) == 0
    assert "learnt with other weights" not in capsys.readouterr().err
    assert program.main([*command.split(), "--weights", str(other[1])]) == 0
    assert capsys.readouterr().err.count("p.pt: learnt with other weights of CLIP than these (") == 1


def test_a_script_s_prompt_keeps_the_weights_that_it_was_learnt_with(mini, other, tmp_path, capsys):
    api.save_prompt(api.make_learner("coop", mini), tmp_path / "first.pt")
    learner = api.load_prompt(tmp_path / "first.pt", mini)
    api.save_prompt(learner, tmp_path / "again.pt")
    assert "learnt with other weights" not in capsys.readouterr().err
    for name in ("first.pt", "again.pt"):
        moved = api.load_prompt(tmp_path / name, other[0])
        assert f"{name}: learnt with other weights of CLIP" in capsys.readouterr().err
    api.save_prompt(moved, tmp_path / "moved.pt")
    assert open_prompt(tmp_path / "moved.pt").provenance["clip"] == mini.mark()  # nothing was learnt with the others
    images = [item.source for item in suite.load("pets").test[:4]]
    tuned = api.fine_tune(moved, other[0], images, [0, 1, 0, 1], ["cat", "dog"], epochs=1)
    api.save_prompt(tuned, tmp_path / "tuned.pt")
    assert open_prompt(tmp_path / "tuned.pt").provenance["clip"] == other[0].mark() != mini.mark()
    capsys.readouterr()
    api.classify(moved, other[0], images, ["cat", "dog"])
    assert capsys.readouterr().err.count("the learner: learnt with other weights") <= 1


# What no tensor tells, and names that are wrapped

@pytest.mark.parametrize("word", ["ctpmiddle", "ctpfront"])
def test_a_path_that_says_where_class_names_stood_is_believed(word, mini, tmp_path, capsys):
    folder = tmp_path / f"nctx16_cscFalse_{word}" / "seed1/prompt_learner"
    folder.mkdir(parents=True)
    path = checkpoint("coop", mini, folder / "model.pth.tar-50")
    (tmp_path / "link.pt").symlink_to(path)
    for given in (path, tmp_path / "link.pt"):
        with pytest.raises(UserError, match=f"{given}: learnt with the class name elsewhere, as its path says .{word}.; here names"):
            open_prompt(given)


def test_without_such_a_path_it_says_what_it_is_taken_for(mini, tmp_path, capsys):
    (tmp_path / "nctx16_cscFalse_ctpend").mkdir()
    path = checkpoint("coop", mini, tmp_path / "nctx16_cscFalse_ctpend/model.pth.tar-50")
    said = "a prompt of CoOp, as its own code writes it (length 4), taken to be learnt with class names at the end"
    for _ in range(2):  # as a command may, which says it once
        open_prompt(path)
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize("method", PUBLISHED)
def test_wrappers_are_taken_off_in_any_order_and_depth(method, mini, tmp_path):
    path = checkpoint(method, mini, tmp_path / "p.pt")
    plain, state = open_prompt(path), torch.load(path, weights_only=True)["state_dict"]
    for wrapped in ("_orig_mod.{}".format, "module.module._orig_mod._orig_mod.{}".format,
                    lambda name: name.replace(".", "._orig_mod.", 1)):  # all of it, or a part
        torch.save({"state_dict": {wrapped(name): value for name, value in state.items()}}, tmp_path / "w.pt")
        found = open_prompt(tmp_path / "w.pt")
        assert (found.method, found.fingerprint) == (method, plain.fingerprint)
        assert found.frozen.keys() == plain.frozen.keys()
