"""What `from mp import ...` gives: the same numbers as by hand, files that run.py takes, and one line for every error."""
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import mp
from data import dataset as data
from data.feed import Feed
from data.images import crop_centre
from data.miniature import suite
from mp import RunError, UserError, classify, fine_tune, load_clip, load_prompt, make_learner, meta_train, save_prompt
from mp import api, finetune, learners, meta, regulator, tasks
from mp.clip import model, tokenizer, weights
from mp.learners import METHODS
from mp.learners.coop import CoOp
from mp.learners.prompts import class_prompts
from mp.learners.promptsrc import PromptSRC
from mp.prompts import PromptFile, learner_of, open_prompt, write_prompt
from mp.runtime.device import let_round
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings
from tests.conftest import ROOT
from tests.store.world import other_weights
from tests.walks import small
from tests.walks.outputs import result

NAMES = ["red lake", "river", "a_forest"]
RNG = np.random.default_rng(0)
PIXELS = [RNG.integers(0, 256, (40 + 9 * i, 61, 3), np.uint8) for i in range(6)]
PICTURES = [Image.fromarray(pixels) for pixels in PIXELS]
LABELS = [0, 1, 2, 0, 1, 2]
DEEP = ("promptsrc", "maple")


@pytest.fixture(scope="module")
def mini():
    return load_clip("mini")


def write_narrow(path, image_width):
    """Write the random weights of a CLIP of other widths, layers and image size than the miniature's; return the path."""
    clip = model.CLIP(image_size=24, patch=8, image_width=image_width, image_layers=2, text_width=64, text_layers=2, embed=64)
    state, generator = clip.state_dict(), torch.Generator().manual_seed(0)
    for name, value in state.items():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator) + (".ln_" in name and name.endswith("weight")))
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    return load_clip(write_narrow(tmp_path_factory.mktemp("narrow") / "narrow.pt", 192))


@pytest.fixture
def few_templates(monkeypatch):
    """PromptSRC's loss compares with three templates instead of 60."""
    monkeypatch.setattr("mp.learners.promptsrc.TEMPLATES", ["a photo of a {}.", "a drawing of the {}.", "itap of my {}."])


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


def refused(call, *says):
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert all(word in text for word in says) and "\n" not in text, text


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
    views = torch.stack([torch.from_numpy(np.array(crop_centre(picture, 32))) for picture in PICTURES])
    first, *_ = learner.inputs(mini, views)
    expected = learner.classifier(mini, class_prompts(mini, NAMES))(first).softmax(1)
    torch.testing.assert_close(classify(learner, mini, PICTURES, NAMES), expected.detach(), rtol=1e-4, atol=1e-5)


class Scaled(CoOp):
    """A learner with a setting that no tensor tells."""

    def __init__(self, clip, generator=None, length=4, scale=1.0):
        super().__init__(clip, generator, length)
        self.scale = scale

    def classifier(self, clip, prompts):
        classify_plainly = super().classifier(clip, prompts)
        return lambda features: self.scale * classify_plainly(features)


def test_what_no_tensor_tells_goes_with_the_learner(mini, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mp.learners.scaled", SimpleNamespace(Scaled=Scaled))
    row = METHODS["coop"]._replace(learner="scaled.Scaled", made_with=("length", "scale"))
    monkeypatch.setitem(METHODS, "scaled", row)
    start = make_learner("coop", mini)
    probabilities, fingerprints = [], []
    for scale in (1.0, 0.3):
        prompt = PromptFile(tmp_path / "x.pt", "scaled", start.state_dict(), {"made_with": {"scale": scale}})
        learner = learner_of(PromptSettings("scaled"), mini, prompt)
        save_prompt(learner, tmp_path / "p.pt")
        tuned = fine_tune(learner, mini, PICTURES, LABELS, NAMES, epochs=1)
        learnt = meta_train(learner, mini, {"t": (PICTURES, LABELS, NAMES)}, epochs=1, support=1, inner_steps=1)
        assert {each.scale for each in (learner, tuned, learnt, load_prompt(tmp_path / "p.pt", mini))} == {scale}
        probabilities.append(classify(learner, mini, PICTURES, NAMES))
        fingerprints += [prompt.fingerprint, open_prompt(tmp_path / "p.pt").fingerprint]
    assert not torch.allclose(*probabilities)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2] == fingerprints[3]


def test_a_learner_meets_other_weights(mini, tmp_path, capsys):
    other_weights(tmp_path)
    other, learner = load_clip(tmp_path / "w.npz"), make_learner("coop", mini)
    assert classify(learner, mini, PICTURES, NAMES).isfinite().all() and "other weights" not in capsys.readouterr().err
    tuned = fine_tune(learner, other, PICTURES, LABELS, NAMES, epochs=1)
    assert "the learner: learnt with other weights" in capsys.readouterr().err
    classify(tuned, other, PICTURES, NAMES)
    assert "other weights" not in capsys.readouterr().err


def test_logits_that_are_not_finite_are_an_error(mini):
    learner = make_learner("coop", mini)
    with torch.no_grad():
        learner.ctx.mul_(1e30)
    with pytest.raises(RunError, match="aren't all finite"):
        classify(learner, mini, PICTURES, NAMES)


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
    expected = classify("{}", mini, PICTURES, NAMES)[[i % 6 for i in range(130)]]
    torch.testing.assert_close(classify("{}", mini, images, NAMES), expected, rtol=1e-4, atol=1e-6)


def test_meta_training_is_that_of_the_loops(mini):
    """Also with more support images than the paper draws."""
    given = {"first": (PIXELS * 20, LABELS * 20, NAMES), "second": (PIXELS[:4], np.array([1, 1, 0, 0]), ["cat", "dog"])}
    chosen = {"epochs": 2, "support": 18, "batch": 2, "inner_steps": 2, "seed": 7}
    start, reports = make_learner("cocoop", mini, seed=5), []
    learnt = meta_train(start, mini, given, reports.append, **chosen)
    learner = learners.make_learner("cocoop", mini, length=4, generator=torch.Generator().manual_seed(5))
    assert same(start, learner) and not same(start, learnt)
    prepared = []
    for name, (pixels, labels, names) in given.items():
        views = Feed(32).plain([data.Item(p, 0) for p in pixels])
        prepared.append(tasks.make_task(learner, mini, name, names, views, labels))
    settings = MetaSettings("cocoop", **METHODS["cocoop"].meta | chosen | {"shots": 40})
    states = list(meta.meta_train(learner, mini, prepared, settings))
    assert all(torch.equal(learnt.state_dict()[name], value) for name, value in states[-1].params.items())
    assert [line["query_loss"] for line in reports] == [state.numbers["query_loss"] for state in states]


@pytest.mark.parametrize("method", ["coop", "promptsrc"])  # the prompt is the last epoch's, or the epochs' average
def test_fine_tuning_is_that_of_the_loop(method, mini, few_templates):
    start, reports = moved(method, mini), []
    tuned = fine_tune(start, mini, PICTURES, torch.tensor(LABELS), NAMES, reports.append, epochs=3, batch=2, seed=7)
    items = [data.Item(pixels, label) for pixels, label in zip(PIXELS, LABELS)]
    settings = FinetuneSettings(method, **METHODS[method].finetune | {"epochs": 3, "batch": 2, "seed": 7})
    batches = Feed(32).augmented(items, 2, 7, "")
    *_, state = finetune.finetune(moved(method, mini), mini, start.prepare(mini, NAMES), batches, settings)
    assert all(torch.equal(tuned.state_dict()[name], value) for name, value in state.prompt.items())
    assert [line["epoch"] for line in reports] == [1, 2, 3] and same(start, moved(method, mini))


@pytest.mark.parametrize("method", DEEP)
def test_the_depth_fits_the_towers(method, mini, narrow, capsys):
    assert len(make_learner(method, mini).text) == 2 and len(make_learner(method, narrow).text) == 1
    assert len(make_learner(method, mini, depth=2).text) == 1 and len(make_learner(method, mini, depth=12).text) == 2
    refused(lambda: make_learner(method, mini, depth=13), "prompt depth 13: out of range; these towers take 1 to 3")
    capsys.readouterr()
    for _ in range(2):
        make_learner(method, mini, depth=7 if method == "maple" else 8)
    assert capsys.readouterr().err.count("these towers have 3 layers") == 1


# No global state

def test_two_clips_side_by_side(mini, narrow):
    clips = {"mini": mini, "narrow": narrow, "half": load_clip("mini", "cpu", "bf16")}
    prompts = {name: moved("promptsrc", clip) for name, clip in clips.items()}

    def classified():
        return {name: classify(prompts[name], clip, PICTURES, NAMES) for name, clip in clips.items()}

    alone, midst = classified(), []
    for name, clip in clips.items():
        learner = moved("coop", clip)
        tuned = fine_tune(learner, clip, PICTURES, LABELS, NAMES, epochs=2)
        # In the midst of one's training, the others are used.
        again = fine_tune(learner, clip, PICTURES, LABELS, NAMES, lambda _: midst.append(classified()), epochs=2)
        assert same(again, tuned)
    assert len(midst) == 6 and all(torch.equal(row[name], alone[name]) for row in midst for name in clips)
    assert not torch.equal(alone["mini"], alone["half"]) and torch.allclose(alone["mini"], alone["half"], atol=0.1)


def test_the_switch_for_tf32_is_set_for_the_clip_that_is_used(mini, monkeypatch):
    asked = []
    monkeypatch.setattr(api, "let_round", lambda device, tf32: asked.append(tf32))
    other = load_clip("mini", precision="tf32")
    assert other.tf32 and not mini.tf32
    for one in (mini, other, mini):
        classify("{}", one, PICTURES, NAMES)
        fine_tune(make_learner("coop", one), one, PICTURES, LABELS, NAMES, epochs=1)
        meta_train(make_learner("coop", one), one, {"t": (PICTURES, LABELS, NAMES)}, epochs=1, inner_steps=1, batch=2)
    assert asked == [False] * 3 + [True] * 3 + [False] * 3
    said = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace())
    for device, tf32 in (("cuda", True), ("cuda", False), ("cpu", True)):
        let_round(torch.device(device), tf32)
    assert said == ["high", "highest"] and torch.backends.cudnn.allow_tf32 is False


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


def test_run_py_takes_the_file_and_finds_the_same_accuracy(mini, tmp_path):
    learner = moved("maple", mini)
    save_prompt(learner, tmp_path / "p.pt")
    cars = small.load("cars")
    answers = classify(learner, mini, [item.source for item in cars.test], cars.classes).argmax(1)
    right = 100 * (answers == torch.tensor([item.label for item in cars.test])).float().mean().item()
    small.run(tmp_path, "zeroshot --prompt p.pt --datasets cars")
    accuracies = result(tmp_path, prompt=open_prompt(tmp_path / "p.pt").fingerprint).accuracies
    assert accuracies["all"] == pytest.approx(right)


@pytest.mark.parametrize("depth, length", [(0, -1), (3, 5)])
def test_an_image_tower_of_its_own_size_is_its_files(depth, length, mini, tmp_path, few_templates):
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

def calls(learner, clip, images=PICTURES, labels=LABELS, names=NAMES):
    """Return a call of each function that takes images, with these arguments. Meta-training has a good task, too."""
    tasks = {"good": (PICTURES, LABELS, NAMES), "pets": (images, labels, names)}
    return {"classify": lambda: classify(learner, clip, images, names),
            "fine_tune": lambda: fine_tune(learner, clip, images, labels, names),
            "meta_train": lambda: meta_train(learner, clip, tasks)}


BAD = {  # arguments, each with what is said of them
    "names": [([], "class names []; give a list of two or more"), (["cat"], "class names ['cat']; give a list of two or more"),
              ("cat", "class names 'cat'"), ([1, 2], "class names [1, 2]"), ({*NAMES}, "give a list of two or more words"),
              (iter(NAMES), "give a list of two or more words"), (dict.fromkeys(NAMES), "give a list of two or more words"),
              (None, "give a list of two or more words"), (["cat", "dog", "cat"], "class names: classes 'cat' and 'cat' read alike"),
              (["cat", " "], "a class's name, ' ', is empty")],
    "labels": [([0, 1, 2], "6 images for 3 labels; give one for each"), ([0, -1, 0, 0, 0, 0], "labels[1] is -1"),
               ([0, 1, 2, 3, 0, 1], "labels[3] is 3; give an index of a class name, 0 to 2"), ([0, 0, 0.5, 0, 0, 0], "labels[2] is 0.5"),
               (["river"] * 6, "labels[0] is river"), ([np.array([0, 1])] * 6, "labels[0] is [0 1]"),
               (iter(LABELS), "labels: list_iterator; give a list of an index for each image"), (3, "labels: int; give"),
               ([1 + 0j] * 6, "labels[0] is (1+0j)"), (np.array(LABELS) + 0j, "labels[0] is 0j"),
               (torch.tensor(LABELS, device="meta"), "labels[0] is tensor(..., device='meta'"),
               (torch.eye(3)[LABELS], "labels: Tensor; give a list"), (None, "labels: NoneType; give a list")],
    # One array would else be taken for as many images as it has rows.
    "images": [(images, f"images: {type(images).__name__}; give a list of one or more")
               for images in (PICTURES[0], PIXELS[0], "a.jpg", {"a": PICTURES[0]}, set(), iter(PICTURES), None, [])],
}


@pytest.mark.parametrize("argument, value, says", [(argument, *pair) for argument, pairs in BAD.items() for pair in pairs])
def test_bad_images_names_and_labels(argument, value, says, mini):
    for name, call in calls(make_learner("coop", mini), mini, **{argument: value}).items():
        if (argument, name) != ("labels", "classify"):  # which has none
            refused(call, says, "pets: " if name == "meta_train" else "")


def test_bad_tasks_and_names(mini):
    learner, task = make_learner("coop", mini), (PICTURES, LABELS, NAMES)
    named = {"pets": {"images": PICTURES, "labels": LABELS, "names": NAMES}}
    for tasks in ({}, [task], task, {"pets": None}, {"pets": task[:2]}, named):
        refused(lambda: meta_train(learner, mini, tasks), "tasks: give a dict of one or more names, each with its images")
    refused(lambda: meta_train(learner, mini, {"pets": (PICTURES[:3], [0, 1, 2], NAMES)}), "pets: one training image of each class")
    for call in calls(learner, mini, PICTURES[:2], [0, 0], ["cat", "dog " * 90]).values():
        refused(call, "too long for CLIP")


@pytest.mark.parametrize("clip", [None, "mini", [1]])
def test_what_is_no_clip(mini, clip, tmp_path):
    learner = make_learner("coop", mini)
    save_prompt(learner, tmp_path / "p.pt")
    for call in (lambda: make_learner("coop", clip), lambda: load_prompt(tmp_path / "p.pt", clip), *calls(learner, clip).values(),
                 *calls(learner, learner).values()):
        refused(call, "clip: ", "; give what `load_clip` returns")


def test_what_is_no_report_path_or_method(mini):
    learner = make_learner("coop", mini)
    refused(lambda: fine_tune(learner, mini, PICTURES, LABELS, NAMES, report=None), "report: NoneType; give a function")
    refused(lambda: meta_train(learner, mini, {"pets": (PICTURES, LABELS, NAMES)}, 3), "report: int; give a function")
    for path in (None, 3):
        for call in (lambda: load_prompt(path, mini), lambda: save_prompt(learner, path)):
            refused(call, f"path: {type(path).__name__}; give a prompt file's name")
    for path, says in (("a" * 300, "File name too long"), ("a\0b", "null"), ("\ud800", "surrogates not allowed")):
        for call in (lambda: load_prompt(path, mini), lambda: save_prompt(learner, path), lambda: load_clip(path)):
            refused(call, f"{path!r}: ", says, "; give another file's name")
    refused(lambda: make_learner(mini, "coop"), "--method CLIP(", "unknown; use one of coop, cocoop")
    refused(lambda: make_learner(["coop"], mini), "--method ['coop']: unknown")


def test_what_is_no_learner(mini, tmp_path):
    for one in (tmp_path, None, ["a {}"], mini, mini.visual.ln_pre):
        for call in (*calls(one, mini).values(), lambda: save_prompt(one, tmp_path / "p.pt")):
            refused(call, "not a learner")


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


def test_a_bad_image_is_named_by_its_place(mini, tmp_path):
    cut = tmp_path / "cut.png"
    PICTURES[0].save(cut)
    cut.write_bytes(cut.read_bytes()[:3000])
    bad = {"cut.png": cut, "No such file": str(tmp_path / "none.jpg"), "truncated": Image.open(cut), "Cannot handle": np.zeros((9, 9, 3)),
           "3 by 9000 pixels": Image.new("RGB", (3, 9000)), "by 0 pixels": np.zeros((0, 9, 3), np.uint8), "[height, width, 3]": None}
    for says, image in bad.items():
        for name, call in calls(make_learner("coop", mini), mini, [*PICTURES[:4], image, PICTURES[5]]).items():
            refused(call, "pets: images[4]" if name == "meta_train" else "images[4]", "can't be used", says)


def test_prompts_that_do_not_fit(mini, narrow, tmp_path):
    learner, deep = moved("promptsrc", narrow), make_learner("maple", mini)
    save_prompt(learner, tmp_path / "p.pt")
    refused(lambda: load_prompt(tmp_path / "p.pt", mini), "p.pt: ctx is [4, 64]", "give the --weights that it was made with")
    refused(lambda: classify(deep, narrow, PICTURES, NAMES), "the learner: holds also proj.", "give the --weights")
    refused(lambda: load_prompt(tmp_path / "none.pt", mini), "none.pt: no such prompt file")
    refused(lambda: load_prompt(tmp_path / "p.pt", narrow, depth=1), "p.pt: holds also text.1; give the --weights")
    for call in calls(learner, mini).values():
        refused(call, "the learner: ctx is [4, 64]", "give the --weights that it was made with")
    refused(lambda: classify("a photo", mini, PICTURES, NAMES), "'a photo': words need {} for the class name", "load_prompt")
    refused(lambda: save_prompt(learner, tmp_path / "p.pt/inside"), "can't be written")


def test_settings_that_play_no_part(mini):
    refused(lambda: make_learner("coops", mini), "--method coops: unknown; use one of coop, cocoop")
    refused(lambda: make_learner("coop", mini, depth=3), "--depth 3: plays no part in coop; leave it out")
    refused(lambda: make_learner("coop", mini, length="4"), "--length '4': out of range")
    refused(lambda: make_learner("coop", mini, epochs=3), "--epochs: not one of the settings here, which are", "length")
    refused(lambda: make_learner("promptsrc", mini, image_depth=1), "--image-depth: not one of")
    learner = make_learner("promptsrc", mini)
    for setting in ("depth", "classes", "shots", "epoch"):
        refused(lambda: fine_tune(learner, mini, PICTURES, LABELS, NAMES, **{setting: 3}), f"--{setting}: not one of")
    for setting in ("length", "regulator", "shots", "lr"):
        refused(lambda: meta_train(learner, mini, {"t": (PICTURES, LABELS, NAMES)}, **{setting: 3}), f"--{setting}: not one of", "inner_lr")


def test_what_a_clip_cannot_be(tmp_path):
    refused(lambda: load_clip(tmp_path / "none.pt"), "none.pt")
    refused(lambda: load_clip("mini", precision="fp64"), "--precision fp64: unknown; use auto, fp32")
    refused(lambda: load_clip("mini", device="tpu"), "--device tpu: unknown")
    refused(lambda: load_clip(3), "weights 3: give a file's name")
    refused(lambda: load_clip("mini", memory="2"), "--memory '2': out of range; give a positive number")
    for memory in (0, -1, float("nan"), float("inf"), 1e300):
        refused(lambda: load_clip("mini", memory=memory), f"--memory {memory}: out of range; give a positive number")


def test_openais_weights_are_meant_without_a_name(monkeypatch):
    monkeypatch.setattr(api, "openai_weights", lambda: suite.WEIGHTS)
    assert torch.equal(load_clip().text_projection, weights.load(suite.WEIGHTS).text_projection)
    assert load_clip("mini", memory=0.5).memory == 2**29
