"""What `from mp import ...` gives: the same numbers as by hand, files that run.py takes, and one line for every error."""
import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import mp
import run as program
from data import dataset as data
from data.feed import Feed
from data.images import crop_centre
from data.miniature import suite
from mp import UserError, classify, fine_tune, load_clip, load_prompt, make_learner, meta_train, save_prompt
from mp import api, finetune, learners, meta, regulator, tasks
from mp.clip import model, tokenizer, weights
from mp.learners import METHODS
from mp.learners.promptsrc import PromptSRC
from mp.prompts import open_prompt, write_prompt
from mp.runtime.device import let_round
from mp.settings import FinetuneSettings, MetaSettings
from tests.conftest import ROOT

NAMES = ["red lake", "river", "a_forest"]
RNG = np.random.default_rng(0)
PIXELS = [RNG.integers(0, 256, (40 + 9 * i, 61, 3), np.uint8) for i in range(6)]
PICTURES = [Image.fromarray(pixels) for pixels in PIXELS]
LABELS = [0, 1, 2, 0, 1, 2]
DEEP = ("promptsrc", "maple")


@pytest.fixture(scope="module")
def mini():
    return load_clip("mini")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A CLIP of other widths, layers and image size, with random weights."""
    state = model.CLIP(image_size=24, patch=8, image_width=192, image_layers=2, text_width=64, text_layers=2, embed=64).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator) + (".ln_" in name and name.endswith("weight")))
    path = tmp_path_factory.mktemp("narrow") / "narrow.pt"
    torch.save(state, path)
    return load_clip(path)


def same(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def moved(method, clip):
    """A learner away from where it starts."""
    learner = make_learner(method, clip)
    generator = torch.Generator().manual_seed(3)
    for p in learner.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=generator)
    return learner


# The same as by hand

def test_words_give_the_softmax_of_scaled_cosines(mini):
    views = torch.stack([torch.from_numpy(np.array(crop_centre(picture, 32))) for picture in PICTURES])
    texts = tokenizer.tokenize(["a drawing of red lake.", "a drawing of river.", "a drawing of a forest."])
    with torch.no_grad():
        image = torch.nn.functional.normalize(mini.encode_image(views))
        text = torch.nn.functional.normalize(mini.encode_text(texts))
        expected = (mini.logit_scale.exp() * image @ text.T).softmax(1)
    found = classify("a drawing of {}.", mini, PICTURES, NAMES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape == (6, 3) and found.device.type == "cpu" and not found.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_a_learner_gives_the_softmax_of_its_logits(method, mini):
    learner = moved(method, mini)
    prepared = learner.prepare(mini, NAMES)
    views = torch.stack([torch.from_numpy(np.array(crop_centre(picture, 32))) for picture in PICTURES])
    first, *_ = learner.inputs(mini, views)
    expected = learner.classifier(mini, getattr(prepared, "prompts", prepared))(first).softmax(1)
    torch.testing.assert_close(classify(learner, mini, PICTURES, NAMES), expected.detach(), rtol=1e-4, atol=1e-5)


def test_the_handcrafted_start_is_its_words(mini):
    learner = make_learner("coop", mini)
    words = classify("a photo of a {}.", mini, PICTURES, NAMES)
    torch.testing.assert_close(classify(learner, mini, PICTURES, NAMES), words, rtol=1e-4, atol=1e-5)


def test_pictures_of_every_mode_arrays_and_files_are_the_same_images(mini, tmp_path):
    files = []
    for i, picture in enumerate(PICTURES):
        picture.save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
    expected = classify("{}", mini, PICTURES, NAMES)
    lazy = [Image.open(file) for file in files]
    for images in (PIXELS, files, [str(file) for file in files], lazy, [*PIXELS[:2], *files[2:4], *PICTURES[4:]]):
        assert torch.equal(classify("{}", mini, images, NAMES), expected)
    grey = PICTURES[0].convert("L")
    kinds = [grey, grey.convert("RGB"), grey.convert("P"), grey.convert("RGBA"), grey.convert("LA"), np.asarray(grey),
             Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)]
    rows = classify("{}", mini, kinds, NAMES)
    assert torch.allclose(rows, rows[:1].expand(7, -1), atol=1e-6)


def test_many_images_come_in_their_order(mini):
    images = [PICTURES[i % 6] for i in range(130)]
    found, few = classify("{}", mini, images, NAMES), classify("{}", mini, PICTURES, NAMES)
    torch.testing.assert_close(found, few[[i % 6 for i in range(130)]], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_meta_training_is_that_of_the_loops(method, mini):
    given = {"first": (PIXELS, LABELS, NAMES), "second": (PIXELS[:4], np.array([1, 1, 0, 0]), ["cat", "dog"])}
    chosen = {"epochs": 2, "support": 1, "batch": 2, "inner_steps": 2, "seed": 7}
    start, seen = make_learner(method, mini, seed=5), []
    before = {name: value.clone() for name, value in start.state_dict().items()}
    found = meta_train(start, mini, given, seen.append, **chosen)
    learner = learners.make_learner(method, mini, 3, METHODS[method].prompt.get("length", 4),
                                    torch.Generator().manual_seed(5))
    made = []
    for name, (pixels, labels, names) in given.items():
        views = Feed(32).plain([data.Item(p, 0) for p in pixels])
        made.append(tasks.make_task(learner, mini, name, names, views, labels))
    settings = MetaSettings(method, **METHODS[method].meta | chosen)
    states = list(meta.meta_train(learner, mini, made, settings))
    assert all(torch.equal(found.state_dict()[name], value) for name, value in states[-1].params.items())
    assert [line["query_loss"] for line in seen] == [state.numbers["query_loss"] for state in states]
    assert all(torch.equal(start.state_dict()[name], value) for name, value in before.items())
    assert not same(found, start)


@pytest.mark.parametrize("method", METHODS)
def test_fine_tuning_is_that_of_the_loop(method, mini):
    start, seen = moved(method, mini), []
    found = fine_tune(start, mini, PICTURES, torch.tensor(LABELS), NAMES, seen.append, epochs=3, batch=2, seed=7)
    items = [data.Item(pixels, label) for pixels, label in zip(PIXELS, LABELS)]
    settings = FinetuneSettings(method, **METHODS[method].finetune | {"epochs": 3, "batch": 2, "seed": 7})
    batches = Feed(32).augmented(items, 2, 7, "")
    *_, state = finetune.finetune(moved(method, mini), mini, start.prepare(mini, NAMES), batches, settings)
    assert all(torch.equal(found.state_dict()[name], value) for name, value in state.prompt.items())
    assert [line["epoch"] for line in seen] == [1, 2, 3] and same(start, moved(method, mini))


def test_more_support_images_than_the_paper_draws(mini):
    images, labels = [PIXELS[i % 6] for i in range(40)], [i % 2 for i in range(40)]
    meta_train(make_learner("coop", mini), mini, {"t": (images, labels, ["cat", "dog"])}, epochs=1, support=18, batch=4)


@pytest.mark.parametrize("method", DEEP)
def test_the_default_depth_fits_the_towers(method, mini, narrow):
    for small, layers in ((mini, 3), (narrow, 2)):
        assert len(make_learner(method, small).text) == layers - 1
    assert len(make_learner(method, mini, depth=2).text) == 1 and len(make_learner(method, mini, depth=12).text) == 2
    with pytest.raises(UserError, match="prompt depth 13: out of range; these towers take 1 to 3"):
        make_learner(method, mini, depth=13)


def test_a_depth_that_towers_have_not_is_said(mini, capsys):
    for _ in range(2):
        make_learner("maple", mini, depth=8)
    assert capsys.readouterr().err.count("prompt depth 3 instead of 8: these towers have 3 layers") == 1


# No global state

def test_two_clips_side_by_side(mini, narrow):
    half = load_clip("mini", "cpu", "bf16")
    both = {"mini": mini, "narrow": narrow, "half": half}
    alone = {name: classify(moved("promptsrc", one), one, PICTURES, NAMES) for name, one in both.items()}
    trained = {name: fine_tune(moved("coop", one), one, PICTURES, LABELS, NAMES, epochs=2) for name, one in both.items()}
    interleaved, prompts = [], {name: moved("promptsrc", one) for name, one in both.items()}

    def others(_):
        """In the midst of one's training, the others are used."""
        interleaved.append({name: classify(prompts[name], one, PICTURES, NAMES) for name, one in both.items()})

    again = {}
    for name, one in both.items():
        again[name] = fine_tune(moved("coop", one), one, PICTURES, LABELS, NAMES, others, epochs=2)
    assert all(torch.equal(row[name], alone[name]) for row in interleaved for name in both) and len(interleaved) == 6
    assert all(same(again[name], trained[name]) for name in both)
    assert not torch.equal(alone["mini"], alone["half"]) and torch.allclose(alone["mini"], alone["half"], atol=0.1)


def test_the_switch_for_tf32_is_set_for_the_clip_that_is_used(mini, monkeypatch):
    asked = []
    monkeypatch.setattr(api, "let_round", lambda device, tf32: asked.append(tf32))
    other = load_clip("mini", precision="tf32")
    assert other.tf32 and not mini.tf32
    for one in (mini, other, mini):
        classify("{}", one, PICTURES, NAMES)
        fine_tune(make_learner("coop", one), one, PICTURES, LABELS, NAMES, epochs=1)
        meta_train(make_learner("coop", one), one, {"t": (PICTURES, LABELS, NAMES)}, epochs=1)
    assert asked == [False] * 3 + [True] * 3 + [False] * 3
    said = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace())
    for device, tf32 in (("cuda", True), ("cuda", False), ("cpu", True)):
        let_round(torch.device(device), tf32)
    assert said == ["high", "highest"] and torch.backends.cudnn.allow_tf32 is False


@pytest.mark.parametrize("method", METHODS)
def test_the_callers_generators_are_left_alone(method, mini):
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())

    before = states()
    learner = make_learner(method, mini)
    learner = meta_train(learner, mini, {"t": (PICTURES, LABELS, NAMES)}, epochs=1, inner_steps=1, batch=2)
    classify(fine_tune(learner, mini, PICTURES, LABELS, NAMES, epochs=1), mini, PICTURES, NAMES)
    assert states() == before


def test_names_are_there_without_waiting_for_torch():
    code = "import sys, mp; from mp import runtime; assert 'torch' not in sys.modules and 'mp.api' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert all(getattr(mp, name).__doc__ for name in mp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'classifier'"):
        mp.classifier


# Files

@pytest.mark.parametrize("method", METHODS)
def test_a_prompt_goes_to_a_file_and_back(method, mini, tmp_path):
    learner = moved(method, mini)
    save_prompt(learner, tmp_path / "p.pt")
    assert same(load_prompt(tmp_path / "p.pt", mini), learner)
    assert open_prompt(tmp_path / "p.pt").provenance["device"] == "cpu"


def test_run_py_takes_the_file_and_finds_the_same_accuracy(mini, tmp_path, monkeypatch, capsys):
    learner = moved("maple", mini)
    save_prompt(learner, tmp_path / "p.pt")
    monkeypatch.chdir(tmp_path)
    assert program.main(["zeroshot", "--prompt", "p.pt", "--datasets", "scenes"]) == 0
    scenes = suite.load("scenes")
    found = classify(learner, mini, [item.source for item in scenes.test], scenes.classes).argmax(1)
    right = 100 * (found == torch.tensor([item.label for item in scenes.test])).float().mean().item()
    row, = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("scenes")]
    assert abs(float(row[8]) - right) < 0.051  # base, new, HM and all of handcrafted ones, then its own


@pytest.mark.parametrize("depth, length", [(0, -1), (1, 2), (3, 5)])
def test_an_image_tower_of_its_own_size_is_its_files(depth, length, mini, tmp_path):
    """As checkpoints of others have it: evaluated, trained further and kept, without a setting that says so."""
    start = PromptSRC(mini, 2, 3, torch.Generator().manual_seed(1), image_depth=depth, image_length=length)
    save_prompt(start, tmp_path / "p.pt")
    learner = load_prompt(tmp_path / "p.pt", mini)
    assert same(learner, start) and [len(value) for value in learner.vision.values()] == [length] * depth
    assert classify(learner, mini, PICTURES, NAMES).isfinite().all()
    tuned = fine_tune(learner, mini, PICTURES, LABELS, NAMES, epochs=1)
    assert tuned.state_dict().keys() == start.state_dict().keys() and not same(tuned, start)
    refused(lambda: load_prompt(tmp_path / "p.pt", mini, length=4), "p.pt: ctx is [3, 128], this model needs [4, 128]; give the --weights")


def test_numbers_of_numpy_are_numbers(mini):
    learner = make_learner("coop", mini, seed=np.int64(3))
    fine_tune(learner, mini, PICTURES, LABELS, NAMES, epochs=np.int64(2), lr=np.float32(0.002))
    refused(lambda: load_clip("mini", memory="2"), "--memory '2': out of range; give a positive number")
    refused(lambda: make_learner(["coop"], mini), "--method ['coop']: unknown")
    refused(lambda: load_clip(3), "weights 3: give a file's name")
    refused(lambda: fine_tune(learner, mini, PICTURES, [np.array([0, 1])] * len(PICTURES), NAMES), "labels[0] is [0 1]")


@pytest.mark.parametrize("method", METHODS)
def test_torch_s_default_type_changes_nothing(method, mini, tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        learner = make_learner(method, mini)
        save_prompt(learner, tmp_path / "p.pt")
        assert {p.dtype for p in learner.parameters()} == {torch.float32}
        assert classify(load_prompt(tmp_path / "p.pt", mini), mini, PICTURES[:1], NAMES).shape == (1, len(NAMES))
    finally:
        torch.set_default_dtype(torch.float32)


def test_files_of_the_methods_own_code(mini, tmp_path):
    ctx = torch.randn(16, mini.positional_embedding.shape[1], generator=torch.Generator().manual_seed(0))
    torch.save({"state_dict": {"ctx": ctx}, "epoch": 50}, tmp_path / "model.pth.tar-50")
    assert torch.equal(load_prompt(str(tmp_path / "model.pth.tar-50"), mini).ctx, ctx)


def test_a_regulator_in_a_file_is_told(mini, tmp_path, capsys):
    learner = moved("coop", mini)
    params = learner.state_dict()
    write_prompt(tmp_path / "p.pt", "coop", params, {}, {}, regulator.start(params, 0))
    assert same(load_prompt(tmp_path / "p.pt", mini), learner)
    assert "p.pt: its regulator is left out; `run.py finetune --init` takes it" in capsys.readouterr().err


# Errors

def refused(call, *says):
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert all(word in text for word in says) and "\n" not in text, text


@pytest.mark.parametrize("names, says", [
    ([], ["class names []; give a list of two or more"]), (["cat"], ["class names ['cat']; give a list of two or more"]),
    ("cat", ["class names 'cat'"]), ([1, 2], ["class names [1, 2]"]), (["cat", "dog", "cat"], ["class names: classes 'cat' and 'cat' read alike"]),
    (["cat", " "], ["a class's name, ' ', is empty"]), (["cat", "dog " * 90], ["too long for CLIP"])])
def test_bad_names(names, says, mini):
    learner = make_learner("coop", mini)
    for call in (lambda: classify(learner, mini, PICTURES, names), lambda: classify("{}", mini, PICTURES, names),
                 lambda: fine_tune(learner, mini, PICTURES[:2], [0, 0], names, epochs=1),
                 lambda: meta_train(learner, mini, {"pets": (PICTURES[:2], [0, 0], names)}, epochs=1)):
        refused(call, *says)


@pytest.mark.parametrize("labels, says", [
    ([0, 1, 2], ["6 images for 3 labels; give one for each"]), ([0, 1, 2, 3, 0, 1], ["labels[3] is 3; give an index of a class name, 0 to 2"]),
    ([0, -1, 0, 0, 0, 0], ["labels[1] is -1"]), ([0, 0, 0.5, 0, 0, 0], ["labels[2] is 0.5"]), (["river"] * 6, ["labels[0] is river"])])
def test_bad_labels(labels, says, mini):
    learner = make_learner("coop", mini)
    refused(lambda: fine_tune(learner, mini, PICTURES, labels, NAMES), *says)
    good = PICTURES, LABELS, NAMES
    refused(lambda: meta_train(learner, mini, {"good": good, "pets": (PICTURES, labels, NAMES)}), "pets: ", *says)


@pytest.mark.parametrize("images", [PICTURES[0], PIXELS[0], "a.jpg", {"a": PICTURES[0]}, set(), iter(PICTURES), None])
def test_images_that_are_no_list(images, mini):
    """One array would else be taken for as many images as it has rows."""
    learner, says = make_learner("coop", mini), f"images: {type(images).__name__}; give a list, also of one image"
    refused(lambda: classify(learner, mini, images, NAMES), says)
    refused(lambda: fine_tune(learner, mini, images, LABELS, NAMES), says)
    refused(lambda: meta_train(learner, mini, {"pets": (images, LABELS, NAMES)}), f"pets: {says}")


def test_what_else_is_no_list(mini):
    learner = make_learner("coop", mini)
    for labels in (iter(LABELS), torch.eye(3)[LABELS], 3, None):
        refused(lambda: fine_tune(learner, mini, PICTURES, labels, NAMES), "labels: ", "give a list of an index for each image")
        refused(lambda: meta_train(learner, mini, {"pets": (PICTURES, labels, NAMES)}), "pets: labels: ")
    for names in ({*NAMES}, iter(NAMES), dict.fromkeys(NAMES), None):
        refused(lambda: classify(learner, mini, PICTURES, names), "class names", "give a list of two or more words")
    task = PICTURES, LABELS, NAMES
    for tasks in ([task], task, {"pets": None}, {"pets": task[:2]}, {"pets": {"images": PICTURES, "labels": LABELS, "names": NAMES}}):
        refused(lambda: meta_train(learner, mini, tasks), "tasks: give a dict with the images, labels and class names of each name")


@pytest.mark.parametrize("clip", [None, "mini", [1]])
def test_what_is_no_clip(mini, clip, tmp_path):
    learner = make_learner("coop", mini)
    save_prompt(learner, tmp_path / "p.pt")
    for call in (lambda: make_learner("coop", clip), lambda: load_prompt(tmp_path / "p.pt", clip),
                 lambda: classify(learner, clip, PICTURES, NAMES), lambda: classify(learner, learner, PICTURES, NAMES),
                 lambda: fine_tune(learner, clip, PICTURES, LABELS, NAMES),
                 lambda: meta_train(learner, clip, {"pets": (PICTURES, LABELS, NAMES)})):
        refused(call, "clip: ", "; give what `load_clip` returns")


def test_what_is_no_report_path_or_method(mini):
    learner = make_learner("coop", mini)
    refused(lambda: fine_tune(learner, mini, PICTURES, LABELS, NAMES, report=None), "report: NoneType; give a function")
    refused(lambda: meta_train(learner, mini, {"pets": (PICTURES, LABELS, NAMES)}, 3), "report: int; give a function")
    refused(lambda: load_prompt(None, mini), "path: NoneType; give a prompt file's name")
    refused(lambda: make_learner(mini, "coop"), "--method CLIP(", "unknown; use one of coop, cocoop")


def test_what_is_no_learner(mini, tmp_path):
    for one in (tmp_path, None, ["a {}"], mini):
        refused(lambda: classify(one, mini, PICTURES, NAMES), "not a learner")
        refused(lambda: save_prompt(one, tmp_path / "p.pt"), "not a learner")


@pytest.mark.parametrize("seed", [-1, 2**32, 2**70])
def test_seeds_are_those_of_the_command_line(seed, mini):
    refused(lambda: make_learner("coop", mini, seed=seed), f"--seed {seed}: out of range; give 0 to 4294967295")
    refused(lambda: meta_train(make_learner("coop", mini), mini, {"t": (PICTURES, LABELS, NAMES)}, seed=seed), f"--seed {seed}")


def test_names_that_are_no_words_are_told_once(mini, capsys):
    learner = make_learner("coop", mini)
    for _ in range(2):
        classify(learner, mini, PICTURES[:1], ["001.cat", "002.dog"])
    assert capsys.readouterr().err.count("class names such as '001.cat' are numbered, and CLIP reads '0 0 1 . cat'") == 1


def test_words_that_the_clip_has_never_seen_are_told(mini, capsys):
    names = ["cat", "heptagon", "polar bear"]
    for _ in range(2):
        classify("{}", mini, PICTURES, names)
    assert capsys.readouterr().err == ("this CLIP has never seen words of heptagon, polar bear: what it makes of them means nothing; give "
                                       "other weights\n")
    classify("{}", mini, PICTURES, NAMES)
    assert capsys.readouterr().err == ""


def test_bad_tasks(mini):
    learner = make_learner("coop", mini)
    refused(lambda: meta_train(learner, mini, {}), "no tasks")
    refused(lambda: meta_train(learner, mini, {"pets": ([], [], NAMES)}), "pets: no images")
    refused(lambda: classify(learner, mini, [], NAMES), "no images; give one or more")
    refused(lambda: fine_tune(learner, mini, [], [], NAMES), "no images; give one or more")
    refused(lambda: meta_train(learner, mini, {"pets": (PICTURES[:3], [0, 1, 2], NAMES)}), "pets: one training image of each class")


def broken(tmp_path):
    PICTURES[0].save(tmp_path / "cut.png")
    cut = (tmp_path / "cut.png").read_bytes()[:3000]
    (tmp_path / "cut.png").write_bytes(cut)
    return {"cut.png": tmp_path / "cut.png", "No such file": str(tmp_path / "none.jpg"), "truncated": Image.open(tmp_path / "cut.png"),
            "3 by 9000 pixels": Image.new("RGB", (3, 9000)), "another kind, F": Image.new("F", (9, 9)), "16 bits": Image.new("I", (9, 9), 70000),
            "largest is 5000": Image.fromarray(np.full((9, 9), 5000, np.int32) - np.eye(9, dtype=np.int32) * 9000),
            "Cannot handle": np.zeros((9, 9, 3)), "by 0 pixels": np.zeros((0, 9, 3), np.uint8), "[height, width, 3]": None}


def test_a_bad_image_is_named_by_its_place(mini, tmp_path):
    learner = make_learner("coop", mini)
    for says, image in broken(tmp_path).items():
        images = [*PICTURES[:4], image, PICTURES[5]]
        refused(lambda: classify("{}", mini, images, NAMES), "images[4]", "can't be used", says)
        refused(lambda: fine_tune(learner, mini, images, LABELS, NAMES), "images[4]", says)
        refused(lambda: meta_train(learner, mini, {"pets": (images, LABELS, NAMES)}), "pets: images[4]", says)


def test_prompts_that_do_not_fit(mini, narrow, tmp_path):
    learner, deep = moved("promptsrc", narrow), make_learner("maple", mini)
    save_prompt(learner, tmp_path / "p.pt")
    refused(lambda: load_prompt(tmp_path / "p.pt", mini), "p.pt: ctx is [4, 64]", "give the --weights that it was made with")
    refused(lambda: classify(deep, narrow, PICTURES, NAMES), "the learner: holds also proj.", "give the --weights")
    refused(lambda: load_prompt(tmp_path / "none.pt", mini), "none.pt: no such prompt file")
    refused(lambda: load_prompt(tmp_path / "p.pt", narrow, depth=1), "p.pt: holds also text.1; give the --weights")
    for call in (lambda one: classify(one, mini, PICTURES, NAMES), lambda one: fine_tune(one, mini, PICTURES, LABELS, NAMES),
                 lambda one: meta_train(one, mini, {"t": (PICTURES, LABELS, NAMES)})):
        refused(lambda: call(learner), "the learner: ctx is [4, 64]", "give the --weights that it was made with")
        refused(lambda: call(mini.visual.ln_pre), "not a learner")
    refused(lambda: classify("a photo", mini, PICTURES, NAMES), "'a photo': words need {} for the class name", "load_prompt")
    refused(lambda: save_prompt(learner, tmp_path / "p.pt/inside"), "can't be written")


def test_settings_that_play_no_part(mini):
    refused(lambda: make_learner("coops", mini), "--method coops: unknown; use one of coop, cocoop")
    refused(lambda: make_learner("coop", mini, depth=3), "--depth 3: plays no part in coop; leave it out")
    refused(lambda: make_learner("promptsrc", mini, image_depth=1), "--image-depth: not one of the settings here")
    refused(lambda: make_learner("coop", mini, epochs=3), "--epochs: not one of the settings here, which are", "length")
    refused(lambda: make_learner("coop", mini, length="4"), "--length '4': out of range")

    def train(method, **settings):
        return lambda: fine_tune(make_learner(method, mini), mini, PICTURES, LABELS, NAMES, **settings)

    refused(train("maple", gpa_mean=3.0), "--gpa-mean 3.0: plays no part in maple; leave it out")
    refused(train("promptsrc", depth=3), "--depth: not one of the settings here")
    refused(train("promptsrc", classes="base"), "--classes: not one of")
    refused(train("promptsrc", gpa_mean=500.0), "GPA's weights vanish")
    learner = make_learner("promptsrc", mini)
    task = {"t": (PICTURES, LABELS, NAMES)}
    refused(lambda: meta_train(learner, mini, task, shots=4), "--shots: not one of")
    refused(lambda: meta_train(learner, mini, task, regulator=True), "--regulator: not one of")
    refused(lambda: meta_train(learner, mini, task, inner_lr=-1.0), "--inner-lr -1.0: out of range; give a positive number")
    refused(lambda: meta_train(learner, mini, task, epoch=3), "--epoch: not one of the settings here", "epochs", "inner_lr")


def test_what_a_clip_cannot_be(tmp_path):
    refused(lambda: load_clip(tmp_path / "none.pt"), "none.pt")
    refused(lambda: load_clip("mini", precision="fp64"), "--precision fp64: unknown; use auto, fp32")
    refused(lambda: load_clip("mini", device="tpu"), "--device tpu: unknown")
    for memory in (0, -1, float("nan"), float("inf")):
        refused(lambda: load_clip("mini", memory=memory), f"--memory {memory}: out of range; give a positive number")


def test_openais_weights_are_meant_without_a_name(monkeypatch):
    monkeypatch.setattr(api, "openai_weights", lambda: suite.WEIGHTS)
    assert torch.equal(load_clip().text_projection, weights.load(suite.WEIGHTS).text_projection)
    assert load_clip("mini", memory=0.5).memory == 2**29
