"""run.py predict as a whole: probabilities of every kind of prompt and names, in three forms, image by image."""
import csv
import io
import json

import pytest
from PIL import Image

from mp import classify
from tests.walks import outputs, plain
from tests.walks.small import load, run

FILES = ["in/b/1.png", "in/a.png", "z.png", "in/b/0.png"]
NAMES = ["pug", "siamese cat", "rose", "red van"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of several classes, and two seeds' meta-prompts."""
    place = tmp_path_factory.mktemp("predict")
    for number, file in enumerate(FILES):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(load(("pets", "flowers")[number % 2]).test[15 * number].source).save(place / file)
    run(place, "meta --method coop --seeds 1 2 --datasets cars")
    (place / "names.txt").write_text("\n".join(NAMES) + "\n")
    return place


def expected(place, files, names, prompt, top=5):
    """Image -> (class, probability), the most probable first."""
    found = {}
    for file in files:
        row = classify(prompt, plain.clip(), [str(place / file)], names)[0].tolist()
        found[file] = sorted(zip(names, row), key=lambda pair: -pair[1])[:top]
    return found


def answers(out):
    lines = [json.loads(line) for line in out.splitlines()]
    return {line["image"]: [(one["class"], one["probability"]) for one in line["classes"]] for line in lines}


def same(found, wanted):
    assert list(found) == list(wanted)  # also their order
    for file, pairs in wanted.items():
        assert [name for name, _ in found[file]] == [name for name, _ in pairs]
        assert [value for _, value in found[file]] == pytest.approx([value for _, value in pairs], abs=1e-5)


@pytest.mark.parametrize("given", ["", "--prompt handcrafted", "--prompt '{} texture'", "--prompt meta --method coop", "--prompt FILE"])
@pytest.mark.parametrize("names", ["--names pug 'siamese cat' rose 'red van'", "--names-from names.txt", "--names-of cars"])
def test_probabilities(given, names, place):
    template, listed = "a photo of a {}.", NAMES
    if "names-of" in names:
        template, listed = load("cars").template, load("cars").classes
    prompt = "{} texture" if "texture" in given else template
    if "meta" in given or "FILE" in given:
        found = outputs.meta_prompt(place, seed=1 if "meta" in given else 2)
        given, prompt = given.replace("FILE", str(found.path)), plain.learner_with("coop", found.params)
    out = run(place, f"predict z.png in --format json {names} {given}").out
    same(answers(out), expected(place, ["z.png", "in/a.png", "in/b/0.png", "in/b/1.png"], listed, prompt))


def test_the_three_forms_agree(place):
    command = f"predict in z.png --names {' '.join(map(repr, NAMES))} --top 3 --format"
    said = {form: run(place, f"{command} {form}").out for form in ("json", "csv", "text")}
    wanted = expected(place, ["in/a.png", "in/b/0.png", "in/b/1.png", "z.png"], NAMES, "a photo of a {}.", top=3)
    same(answers(said["json"]), wanted)
    lines = list(csv.DictReader(io.StringIO(said["csv"])))
    assert [int(line["rank"]) for line in lines] == [1, 2, 3] * 4
    table: dict = {}
    for line in lines:
        table.setdefault(line["image"], []).append((line["class"], float(line["probability"])))
    same(table, wanted)
    text = []
    for file, pairs in wanted.items():
        text += [file, *(f"{100 * value:7.2f}  {name}" for name, value in pairs)]
    assert said["text"].splitlines() == text
