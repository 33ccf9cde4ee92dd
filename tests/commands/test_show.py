"""run.py show: every number against numpy, the file's story, and --export against what it came from."""
import re

import numpy as np
import pytest
import torch

import run as program
from data.suite import open_suite
from mp import regulator
from mp.clip import tokenizer
from mp.clip.weights import load
from mp.learners import METHODS, learner_class, make_learner
from mp.prompts import open_prompt, write_prompt
from mp.runtime.errors import UserError


@pytest.fixture(scope="module")
def mini():
    return load(open_suite(None).weights)


@pytest.fixture
def prompt(mini, tmp_path):
    """Of every method: a file with noise added to the start of seed 7."""
    def write(method, length=4, identity=None, **about):
        torch.manual_seed(1)
        start = make_learner(method, mini, 3, length, torch.Generator().manual_seed(7)).state_dict()
        params = {name: value + 0.1 * torch.randn_like(value) for name, value in start.items()}
        path = tmp_path / f"{method}.pt"
        settings = {"method": method, "seed": 7, "depth": 3, "lr": 0.25}
        identity = {"weights": "ab" * 32, "settings": settings, "trained_on": {"pets": "1", "cars": "2"}} if identity is None else identity
        write_prompt(path, method, params, identity, {"command": "python run.py meta", "commit": "c0ffee", "clip": "abab"} | about)
        return path, start, params
    return write


def shown(capsys, *args, code=0):
    assert program.main(["show", *map(str, args)]) == code
    return capsys.readouterr()


@pytest.mark.parametrize("method", METHODS)
def test_shapes_norms_and_distances(method, prompt, mini, capsys):
    path, start, params = prompt(method)
    out = shown(capsys, path).out
    lines = {line.split()[0]: line for line in reversed(out.splitlines()) if line}
    for name, tensor in params.items():
        norm, distance = map(float, lines[name].split()[-2:])
        assert abs(norm - np.linalg.norm(tensor.numpy())) < 1e-4
        assert abs(distance - np.linalg.norm((tensor - start[name]).numpy())) < 1e-4 and distance > 0.1
        assert " × ".join(map(str, tensor.shape)) in lines[name]
    assert METHODS[method].title in out and "python run.py meta, commit c0ffee" in out and "pets, cars" in out and "lr 0.25" in out
    assert "others than those at hand: abab, now " in out
    deep = re.findall(r"^(\d+) +([\d.]+) +([\d.]+)$", out, re.M)
    assert len(deep) == (3 if method in ("promptsrc", "maple") else 0)
    for layer, text, image in deep:
        own = params["ctx"] if layer == "0" else params[f"text.{layer}"]
        coupled = own @ params[f"proj.{layer}.weight"].T + params[f"proj.{layer}.bias"] if method == "maple" else params[f"vision.{layer}"]
        for value, vectors in ((text, own), (image, coupled)):
            assert abs(float(value) - np.linalg.norm(vectors.numpy(), axis=1).mean()) < 1e-4


def test_the_nearest_words(prompt, mini, capsys):
    path, _, params = prompt("coop")
    out = shown(capsys, path).out
    table = mini.token_embedding.weight.numpy()
    ids = [i for i in np.flatnonzero(np.abs(table).sum(1)) if i < tokenizer.SOS]
    for number, vector in enumerate(params["ctx"].numpy(), 1):
        line = next(line for line in out.splitlines() if line.startswith(f"ctx {number}"))
        found = re.findall(r"(\S+) (\d\.\d+)", line.split("   ", 1)[1])
        far = np.linalg.norm(table[ids] - vector, axis=1)
        nearest = [ids[i] for i in np.argsort(far)[:3]]
        words = [tokenizer.decode([i]) for i in nearest]
        assert [word for word, _ in found] == [w.strip() if w.endswith(" ") else f"{w}…" for w in words]
        np.testing.assert_allclose([float(distance) for _, distance in found], np.sort(far)[:3], atol=2e-4)


def test_a_vector_that_is_a_word_is_that_word(prompt, mini, capsys, tmp_path):
    path = tmp_path / "p.pt"
    write_prompt(path, "coop", {"ctx": make_learner("coop", mini, 1, 4).state_dict()["ctx"]}, {}, {})
    out = shown(capsys, path).out
    for number, word in enumerate("a photo of a".split(), 1):
        assert re.search(rf"^ctx {number} +[\d.]+ +{word} 0.0000", out, re.M)
    assert re.search(r"^ctx .* 0.0000$", out, re.M)


@pytest.mark.parametrize("method", [method for method in METHODS if learner_class(method).published_as])
def test_what_is_exported_is_the_same_prompt(method, prompt, tmp_path, capsys):
    path, _, params = prompt(method, 2)
    target = tmp_path / "model.pth.tar-1"
    said = shown(capsys, path, "--export", target).err
    content = torch.load(target, weights_only=True)
    assert set(content) == {"state_dict", "epoch"} and str(content["epoch"]) in said
    again = open_prompt(target)
    assert again.method == method and again.fingerprint == open_prompt(path).fingerprint and again.params.keys() == params.keys()
    out = shown(capsys, target).out
    assert "in the form of the method's own code" in out and out.count("ctx 2") == 1
    for name in params:
        if name != "ctx":
            assert re.search(rf"^{re.escape(name)} .* -$", out, re.M)  # its random start isn't known


def test_a_method_without_code_of_its_own_is_not_exported(prompt, tmp_path, capsys, monkeypatch):
    """Nor are its files taken for another method's."""
    path, _, _ = prompt("maple", 2)
    exported, other = tmp_path / "exported.pt", tmp_path / "other.pt"
    shown(capsys, path, "--export", exported)
    monkeypatch.setattr(learner_class("maple"), "published_as", "")
    said = shown(capsys, path, "--export", other, code=2).err
    assert "--export: MaPLe has no code of its own that would load it; leave it out" in said and not other.exists()
    with pytest.raises(UserError, match="compound_prompts_text.0 beside a prompt of PromptSRC"):
        open_prompt(exported)


def test_a_script_s_prompt_says_nothing_of_weights(mini, capsys, tmp_path):
    from mp import save_prompt
    save_prompt(make_learner("coop", mini), tmp_path / "p.pt")
    out = shown(capsys, tmp_path / "p.pt").out
    assert "made by  a script, from what it doesn't say, commit " in out
    assert "others than those" not in out and "started from" not in out and "None" not in out


def test_a_regulator_is_shown_and_told_where_it_is_left_out(mini, capsys, tmp_path):
    params = make_learner("coop", mini).state_dict()
    phi = regulator.start(params, 1)
    write_prompt(tmp_path / "p.pt", "coop", params, {"settings": {"seed": 1}}, {}, phi)
    said = shown(capsys, tmp_path / "p.pt", "--export", tmp_path / "e.pt")
    assert re.search(rf"^regulator +{sum(value.numel() for value in phi.values()):,} numbers beside the prompt's$", said.out, re.M)
    assert "the prompt's regulator is left out, as the method's own code has none" in said.err


def test_a_path_without_digits_is_not_written_to_where_it_means_the_prompt(mini, capsys, tmp_path):
    path = tmp_path / "coop-seed1-0123456789ab/prompt.pt"
    write_prompt(path, "coop", make_learner("coop", mini).state_dict(), {}, {})
    for given in (path, tmp_path / "coop-seed1/prompt.pt"):
        assert "the prompt itself; give another file" in shown(capsys, given, "--export", given, code=2).err
    assert list(tmp_path.iterdir()) == [path.parent]


def test_what_can_not_be_shown(prompt, tmp_path, capsys):
    path, _, params = prompt("coop", identity=["odd"])
    assert "made by" in shown(capsys, path).out
    (tmp_path / "folder").mkdir()
    write_prompt(tmp_path / "meta/prompt.pt", "coop", params, {}, {})
    torch.save({"method": "coop", "params": {"ctx": torch.zeros(4, 64)}}, tmp_path / "small.pt")
    torch.save({"method": "vpt", "params": {"ctx": torch.zeros(4, 64)}}, tmp_path / "other.pt")
    for args, says in (([tmp_path / "none.pt"], "no such prompt file"), ([tmp_path / "folder"], "no such prompt file; `run.py meta`"),
                       ([tmp_path / "meta"], f"no such prompt file; give {tmp_path / 'meta/prompt.pt'}"),
                       ([path, "--export", path], "the prompt itself; give another file"),
                       ([path, "--export", tmp_path / "folder"], "(Is a directory); give a file's name"),
                       ([path, "--weights", tmp_path / "w.pt"], "no such weights file"),
                       ([tmp_path / "small.pt"], "this model needs [4, 128]; give the --weights"),
                       ([tmp_path / "other.pt"], "made for --method vpt, which isn't known")):
        error = shown(capsys, *args, code=2).err
        assert says in error and len(error.splitlines()) == 1
