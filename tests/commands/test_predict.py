"""run.py predict: probabilities that were computed otherwise, every image in its place, and bad input in one line before any work."""
import csv
import io
import json
import math
import os
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

import run as program
from data.feed import VIEWS_AT_ONCE, Feed
from data.miniature import suite as mini
from mp.clip import tokenizer
from mp.clip.model import CLIP, normalise
from mp.clip.weights import load
from mp import evaluate
from mp.learners import METHODS
from mp.learners.prompts import class_prompts
from mp.learners.settings import hashed
from mp.prompts import write_prompt
from mp.runtime import files, progress
from mp.settings import MetaSettings
from mp.store.cells import Identity, name_of
from tests.learners.test_learners import golden_learner
from tests.learners.test_maple import learner_of

NAMES = ["tabby cat", "polar_bear", "owl", "7 fish"]
COUNT = 2 * VIEWS_AT_ONCE + 5


@pytest.fixture(scope="module")
def place(recipe, clip, tmp_path_factory):
    """Weights, prompts, a folder of images with sub-folders and files that are none, and folders with less."""
    place = tmp_path_factory.mktemp("place")
    torch.save({k: torch.as_tensor(v) for k, v in recipe.clip_state("A").items()}, place / "w.pt")
    for case in ("coop", "cocoop", "promptsrc3"):
        learner = golden_learner(case, clip, recipe)
        learner.ctx.data.mul_(1.5)  # not where it starts
        write_prompt(place / f"{case}.pt", case.rstrip("3"), learner.state_dict(), {}, {})
    write_prompt(place / "maple.pt", "maple", learner_of("maple2+ctx", clip).state_dict(), {}, {})
    write_prompt(place / "wide.pt", "coop", {"ctx": torch.ones(4, 64)}, {}, {})
    rng = np.random.default_rng(1)
    for folder in ("in/b", "in/a-b", "in/a/deep", "in/.hidden", "empty", "texts", "circle", "crow", "birds/owl", "birds/crow"):
        (place / folder).mkdir(parents=True)
    for i in range(COUNT):
        folder = ("in", "in/b", "in/a-b", "in/a/deep")[i % 4]
        width, height = rng.integers(33, 70, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(place / folder / f"{i:03}.{('png', 'JPG')[i % 2]}", ("PNG", "JPEG")[i % 2])
    for name in ("in/.hidden/1.png", "birds/owl/1.png", "birds/owl/2.png", "birds/crow/1.png", "birds/crow/2.png"):
        Image.new("RGB", (32, 32), "red").save(place / name)
    for name in ("in/notes.txt", "in/b/list.csv", "texts/a.txt", "text.jpg"):
        (place / name).write_text("none\n")
    (place / "circle/on").symlink_to(place / "circle")
    (place / "names.txt").write_text("".join(f" {name} \r\n" for name in NAMES) + "\n\n", encoding="utf-8-sig")
    (place / "nothing.txt").write_text("\n \n")
    (place / "gap.txt").write_text("cat\n\ndog\n")
    (place / "binary.txt").write_bytes(bytes(range(256)))
    return place


@pytest.fixture
def ask(place, monkeypatch, capsys):
    """predict with the small weights: what it prints, after it ended with `code`; the lines on standard error."""
    def call(*args, code=0, weights=("--weights", "w.pt")):
        monkeypatch.chdir(place)
        assert program.main(["predict", *map(str, args), *weights]) == code
        out, err = capsys.readouterr()
        return out, err.splitlines()
    return call


def images_in(place):
    """Sorted as text, as `find | LC_ALL=C sort` would."""
    return sorted(str(p.relative_to(place)) for p in (place / "in").rglob("*") if p.suffix in (".png", ".JPG") and ".hidden" not in str(p))


def answers(out):
    """Of --format json: image -> class -> probability."""
    lines = [json.loads(line) for line in out.splitlines()]
    return {line["image"]: {one["class"]: one["probability"] for one in line["classes"]} for line in lines}


def view_of(path):
    """CLIP's own preprocessing of a file, with Pillow's words alone: float [1, 3, 32, 32]."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    image = image.resize([int(32 * side / short) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (round((side - 32) / 2) for side in image.size)
    return normalise(torch.from_numpy(np.array(image.crop((left, top, left + 32, top + 32)))))[None]


def text_of(clip, text, ctx=None):
    """Feature [E] of one text at all 77 positions, perhaps with other vectors in place of "a photo of a"."""
    ids = tokenizer.tokenize(text)
    x = clip.token_embedding(ids)
    if ctx is not None:
        x[:, 1 : 1 + len(ctx)] = ctx
    x = x + clip.positional_embedding
    for block in clip.transformer.resblocks:
        x = block(x, causal=True)
    return (clip.ln_final(x[0, ids[0].argmax()]) @ clip.text_projection).double()


def expected(clip, path, template, names=NAMES, ctx=None):
    """exp(scale) · cosine, then softmax, in plain Python, in float64."""
    image = clip.encode_image(view_of(path))[0].double()
    logits = []
    for name in names:
        text = text_of(clip, template.replace("{}", name.replace("_", " ")), ctx)
        logits.append(math.exp(clip.logit_scale) * float(image @ text / (image.norm() * text.norm())))
    powers = [math.exp(value - max(logits)) for value in logits]
    return {name: power / sum(powers) for name, power in zip(names, powers)}


def same(found, wanted):
    assert found.keys() == wanted.keys() and list(found.values()) == sorted(found.values(), reverse=True)
    assert all(abs(found[name] - wanted[name]) < 1e-5 for name in wanted) and abs(sum(found.values()) - 1) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("prompt, template, ctx", [
    ([], "a photo of a {}.", False), (["--prompt", "handcrafted"], "a photo of a {}.", False),
    (["--prompt", "a {} or {}?"], "a {} or {}?", False), (["--prompt", "coop.pt"], "a photo of a {}.", True)])
def test_probabilities_are_softmax_of_scaled_cosines(prompt, template, ctx, ask, place, clip):
    vectors = torch.load(place / "coop.pt", weights_only=True)["params"]["ctx"] if ctx else None
    found = answers(ask("in", "--names", *NAMES, *prompt, "--format", "json")[0])
    images = images_in(place)
    assert list(found) == images and len(images) == COUNT
    for image in images[::25]:
        same(found[image], expected(clip, place / image, template, ctx=vectors))
    assert len({tuple(one) for one in found.values()}) > 1  # not all images are the same to it


@torch.no_grad()
@pytest.mark.parametrize("case", ["cocoop", "promptsrc3", "maple"])
def test_every_learner_gives_what_it_gives_an_image_alone(case, ask, place, clip, recipe):
    file = torch.load(place / f"{case}.pt", weights_only=True)
    learner = golden_learner(case, clip, recipe) if case != "maple" else learner_of("maple2+ctx", clip)
    learner.load_state_dict(file["params"])
    found = answers(ask("in", "--names-from", "names.txt", "--prompt", f"{case}.pt", "--format", "json")[0])
    classify = learner.classifier(clip, class_prompts(clip, NAMES))
    for image in images_in(place)[::13]:
        view = view_of(place / image)
        inputs = learner.inputs(clip, view)[0]
        same(found[image], dict(zip(NAMES, classify(inputs)[0].double().softmax(-1).tolist())))


def test_the_most_probable_class_is_the_one_that_zeroshot_counts(ask, place, clip):
    """On the miniature, with each dataset's template."""
    dataset = mini.load("pets")
    items = dataset.test[::12]
    (place / "pets_drawn").mkdir()
    for i, item in enumerate(items):
        Image.fromarray(item.source).save(place / f"pets_drawn/{i:03}.png")
    out, err = ask("pets_drawn", "--names-of", "pets", "--top", 1, "--format", "json", weights=())
    right = [dataset.classes[item.label] in classes for item, classes in zip(items, answers(out).values(), strict=True)]
    small = load(mini.WEIGHTS)
    tested = evaluate.TestSet(type(dataset)("", dataset.template, dataset.classes, [], items), small, lambda: Feed(32).plain(items))
    assert 100 * sum(right) / len(right) == pytest.approx(tested.handcrafted(dataset.template)["all"])
    words = ask("pets_drawn", "--names", *dataset.classes, "--prompt", dataset.template, "--top", 1, "--format", "json", weights=())
    assert words[0] == out
    assert err == ["these images: computed with the miniature's small CLIP; for OpenAI's give --weights FILE or --data DIR"]


def test_names_of_a_folder_of_ones_own_and_its_template(ask):
    own = answers(ask("in/b", "--names-of", "birds", "--format", "json")[0])
    assert own == answers(ask("in/b", "--names", "crow", "owl", "--format", "json")[0])
    assert own == answers(ask("in/b", "--names", "crow", "owl", "--prompt", "a photo of a {}.", "--format", "json")[0])


def test_bad_images_are_named_and_the_others_keep_their_places(ask, place, clip):
    """Also where a whole batch is bad, with and without threads, and in threads that end in another order."""
    images = images_in(place)
    given = [images[0], "text.jpg", *["text.jpg"] * 2 * VIEWS_AT_ONCE, *images[1:70], "text.jpg", images[3]]
    whole = answers(ask(*images, "--names", *NAMES, "--format", "json")[0])
    for workers in (0, 3):
        out, err = ask(*given, "--names", *NAMES, "--format", "json", "--workers", workers, code=1)
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["image"] for line in lines] == [images[0], *images[1:70], images[3]]
        for line in lines:
            found = {one["class"]: one["probability"] for one in line["classes"]}
            assert found == pytest.approx(whole[line["image"]], abs=1e-6)
        bad = 2 * VIEWS_AT_ONCE + 2
        assert sum(line.startswith("text.jpg: not a readable image (not JPEG, ") for line in err) == bad
        assert not any("data --check" in line for line in err)
        assert err[-1] == f"run.py: {bad} of {len(given)} images can't be read; they are named above, the others answered"


def test_the_three_formats_say_the_same(ask, place):
    given = ["in/a", "--names", *NAMES]
    found = answers(ask(*given, "--format", "json")[0])
    rows = list(csv.DictReader(io.StringIO(ask(*given, "--format", "csv", "--top", 4)[0])))
    assert [(row["image"], row["class"], float(row["probability"]), int(row["rank"])) for row in rows] == [
        (image, name, value, rank) for image, classes in found.items() for rank, (name, value) in enumerate(classes.items(), 1)]
    text = ask(*given, "--top", 2)[0].splitlines()
    assert text == [line for image, classes in found.items()
                    for line in (image, *(f"{100 * value:7.2f}  {name}" for name, value in list(classes.items())[:2]))]


def test_odd_names_are_quoted(ask, place):
    odd = 'in odd/a "b",\n\u00fc\udcff.png'
    os.makedirs(place / "in odd", exist_ok=True)
    Image.new("RGB", (32, 32)).save(place / odd)
    names = ["--names", 'a, "b"', "\u00fc"]
    assert list(answers(ask(odd, *names, "--format", "json")[0])) == [odd]
    rows = list(csv.DictReader(io.StringIO(ask(odd, *names, "--format", "csv")[0], newline="")))
    assert {row["class"] for row in rows} == {'a, "b"', "\u00fc"} and {row["image"] for row in rows} == {odd.replace("\udcff", "\\udcff")}
    assert ask(odd, *names)[0].splitlines()[0] == 'in odd/a "b",\\n\u00fc\\udcff.png'


def test_five_classes_and_what_is_left_out(ask):
    out, err = ask("in", "--names", *"abcdefg")
    assert len(out.splitlines()) == 6 * COUNT
    assert err[0] == "in: left out 2 files that aren't images by their endings"  # hidden ones aren't spoken of
    assert "embedded miniature" not in "".join(err)


def test_names_that_are_no_words_are_told_once(ask):
    _, err = ask("birds/owl/1.png", "--names", "n01440764", "owl")
    note, = [line for line in err if "class names such as" in line]
    assert note.startswith("class names such as 'n01440764' are WordNet ids, and CLIP reads 'n 0 1 4 4 0 7 6 4': ")
    assert not any("class names" in line for line in ask("birds/owl/1.png", "--names", "boeing 737", "owl")[1])


def test_a_name_of_joined_signs_is_shown_as_it_is(ask):
    out, _ = ask("birds/owl/1.png", "--names", "\U0001f469\u200d\U0001f680", "می\u200cروم")
    assert "\U0001f469\u200d\U0001f680\n" in out and "می\u200cروم\n" in out


def test_only_some_views_are_in_memory_at_a_time(ask, monkeypatch):
    sizes, encode = [], CLIP.encode_image
    monkeypatch.setattr(CLIP, "encode_image", lambda self, images, *args: sizes.append(len(images)) or encode(self, images, *args))
    ask("in", "--names", *NAMES)
    assert sizes == [VIEWS_AT_ONCE, VIEWS_AT_ONCE, 5]


BAD = [  # what is given beside an image, and what is said
    ("", "one of the arguments --names --names-from --names-of is required"),
    ("--names", "argument --names: expected at least one argument"), ("--names cat", "class names: cat; give two or more"),
    ("--names cat dog cat", "class names: classes 'cat' and 'cat' read alike; rename or unite them"),
    ("--names a names.txt", "class names: 'names.txt' is a file; give images before the options"),
    ("--names a_b c A|b", "classes 'a_b' and 'A b' read alike"), ("--names a | b", "class's name, '', is empty"),
    ("--names a b --names-from names.txt", "not allowed with argument"), ("--names a b --names-of birds", "not allowed with argument"),
    ("--names-from absent.txt", "absent.txt: no list of names (No such file or directory); give"),
    ("--names-from binary.txt", "binary.txt: no list of names ('utf-8' codec"), ("--names-from in", "in: can't be read (Is a directory); mend"),
    ("--names-from nothing.txt", "class names: none; give two or more"), ("--names-from gap.txt", "a class's name, '', is empty"),
    ("--names-of nowhere", "no dataset 'nowhere' in the mini suite"), ("--names-of empty", "empty: no sub-folders"),
    ("--names cat " + "x|" * 80, "a class name is too long for CLIP: text of 85 tokens doesn't fit"),
    ("--names cat " + "x|" * 80 + " --prompt coop.pt", "a class name is too long for CLIP"),
    ("--names a b --prompt a|photo", "no such file; words need {} for the class name"), ("--names a b --prompt photo", "photo: no such prompt file"),
    ("--names a b --prompt coop.pt --method cocoop", "coop.pt: made for --method coop, not cocoop; give that method"),
    ("--names a b --prompt wide.pt", "ctx is [4, 64], this model needs [4, 128]; give the --weights"),
    ("--names a b --prompt w.pt", "w.pt: not a prompt file"), ("--names a b --method coop", "--method coop: plays no part in --prompt 'handcrafted'"),
    ("--names a b --prompt meta --method coop", "make it with: python run.py meta --method coop --seeds 1 --weights w.pt"),
    ("--names a b --top 0", "'0' is not a number of classes, 1 to 1000000"), ("--names a b --format xml", "invalid choice: 'xml'"),
    ("--names a b --seeds 1", "unrecognized arguments: --seeds 1"),
]
BAD_IMAGES = [
    ("absent.png", "'absent.png': no such image or folder"), ("empty", "empty: no images in that folder (.apng,"), ("texts", "texts: no images in that folder"),
    ("text.jpg", "no image can be read: text.jpg: not a readable image (not JPEG"), ("text.jpg|text.jpg", "no image can be read: text.jpg: "),
    ("in|absent.png", "'absent.png': no such image"), ("circle", "/on/on: not a readable folder (Too many levels of symbolic links)"),
    ("", "the following arguments are required: IMAGE"), (" ", "' ': no such image or folder"),
]


@pytest.fixture
def refuses(ask, monkeypatch):
    """It ends with code 2, one line of its own, and nothing computed."""
    def call(*args, says):
        for name in ("encode_image", "encode_text", "encode_prompts"):
            monkeypatch.setattr(CLIP, name, lambda *_: pytest.fail("computed in vain"))
        out, err = ask(*args, code=2)
        own = [line for line in err if line.startswith("run.py: ")]
        assert not out and len(own) == 1 and says in own[0] and ";" in own[0], err
    return call


@pytest.mark.parametrize("args, says", BAD, ids=lambda v: v[:40])
def test_bad_names_and_prompts(args, says, refuses, place):
    refuses("in/b/001.JPG", *(word.replace("|", " ").strip() if word != "|" else "" for word in args.split(" ") if args), says=says)


@pytest.mark.parametrize("given, says", BAD_IMAGES, ids=lambda v: v[:40])
def test_bad_images(given, says, refuses):
    refuses(*[word for word in given.split("|") if word], "--names", "cat", "dog", says=says)


def test_words_that_the_clip_has_never_seen_are_told(place, monkeypatch, capsys):
    """The miniature's CLIP gives them one probability, whatever is in the image."""
    monkeypatch.chdir(place)
    assert program.main(["predict", "in/b/001.JPG", "--names", "heptagon", "rhombus", "cat"]) == 0
    said = capsys.readouterr()
    assert "this CLIP has never seen words of heptagon, rhombus: what it makes of them means nothing; give other weights\n" in said.err
    assert program.main(["predict", "in/b/001.JPG", "--names", "cat", "dog"]) == 0
    assert "never seen" not in capsys.readouterr().err


def test_a_prompt_that_overflows_ends_with_code_1(ask, place):
    write_prompt(place / "huge.pt", "coop", {"ctx": torch.full((4, 128), 3e38)}, {}, {})
    out, err = ask("in/b", "--names", "a", "b", "--prompt", "huge.pt", code=1)
    assert not out and err[-1].startswith("run.py: the logits of images aren't all finite")


def test_a_meta_prompt(ask, tmp_path, clip):
    """The one of seed 1 below --out that was made with these weights and the usual settings."""
    settings = MetaSettings("coop", **METHODS["coop"].meta, epochs=mini.META_EPOCHS)
    images = dict.fromkeys(mini.TRAINING, "its images")
    identity = Identity(files.sha256(mini.WEIGHTS), "auto", "handcrafted", hashed(settings), images)
    usual = tmp_path / "mini/meta" / name_of("coop-seed1", identity) / "prompt.pt"
    given = ["in/b", "--names", "pug", "poodle", "--format", "json"]
    meta = [*given, "--prompt", "meta", "--method", "coop", "--out", tmp_path]
    ctx = torch.randn(4, 128, generator=torch.Generator().manual_seed(1))
    write_prompt(usual, "coop", {"ctx": ctx}, asdict(identity), {})
    found = answers(ask(*meta, weights=())[0])
    assert found == answers(ask(*given, "--prompt", usual, weights=())[0]) != answers(ask(*given, weights=())[0])
    said = ask(*meta, code=2)[1][-1]
    assert f"no meta-prompt coop-seed1; {usual.parent.name} differs in weights; make it with" in said


def test_a_line_on_a_terminal_takes_the_place_of_the_progress_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = progress.Progress("image")
    shown.update(1, 9)
    progress.say("a.jpg: bad")
    assert capsys.readouterr().err.split("\r\033[K")[1:] == [shown_line := "image 1/9    ETA 0:00", "a.jpg: bad\n"], shown_line
