"""Nothing is mixed in silence: a file that differs in any one thing it depends on is refused, by name, and left as it is."""
import json
import os
from dataclasses import fields

import pytest
import torch

from mp.settings import FinetuneSettings, MetaSettings
from mp.store.identity import DEPENDS_ON
from tests.robustness.counts import COUNTS
from tests.robustness.faults import (META, RESULT, STATE, TUNE, TUNED, ZEROSHOT, contents, copy, limits, prompts, run)

FILES = {  # kind of file, an example, the command that reads it, the settings it depends on
    "meta-prompt": ("meta-prompt", "runs/paper/meta/coop-shots3-support2-seed1/prompt.pt", META.format("coop"), MetaSettings),
    "meta state": ("meta-prompt", STATE, META.format("cocoop"), MetaSettings),
    "tuning state": ("fine-tuned prompt", f"{TUNED}2.state.pt", f"{TUNE} --seeds 2", FinetuneSettings),
    "tuned": ("fine-tuning result", f"{TUNED}1.json", TUNE, FinetuneSettings),
    "zero-shot": ("zero-shot result", RESULT, f"{ZEROSHOT} dtd", None),
}
INNER = {"trained_on": ["DTD"], "tested_on": ["DTD"]}
SUITE = "--data data --weights w.pt"
EARLIER = [  # of which nothing else is needed: weights aren't even read
    f"meta --method coop {SUITE} --datasets dtd", f"finetune --method coop {SUITE} --datasets dtd", f"zeroshot {SUITE}",
    f"table --run {SUITE} --datasets dtd",
]


def places() -> list:
    """Every thing that every kind of file depends on: the way to it in the identity."""
    found = []
    for name, (kind, _, _, settings) in FILES.items():
        for field in DEPENDS_ON[kind]:
            inner = [one.name for one in fields(settings)] if field == "settings" else INNER.get(field, [])
            for way in [(field, key) for key in inner] or [(field,)]:
                found.append(pytest.param(name, way, id=f"{name}: {'.'.join(way)}"))
    return found


def read(path):
    return torch.load(path, weights_only=True) if path.suffix == ".pt" else json.loads(path.read_text())


def write(path, content):
    if path.suffix == ".pt":
        torch.save(content, path)
    else:
        path.write_text(json.dumps(content))


def other(value):
    """Something of the same type, or not, that isn't the same."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else f"x{value}"


def refused(ended, file, says):
    COUNTS["fault cases"] += 1
    assert ended.code == 2 and ended.out == "", ended.err
    message, = ended.messages()
    assert file in message and says in message and ";" in message, message


@pytest.mark.parametrize("name, way", places())
def test_a_file_of_another_identity_is_refused(name, way, world, tmp_path):
    _, file, command, _ = FILES[name]
    place = copy(world, tmp_path / "w", file)
    content = read(place / file)
    inner = content["identity"]
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = other(inner[way[-1]])
    write(place / file, content)
    kept, before = (place / file).read_bytes(), contents(place)
    what = "from another version" if way == ("format",) else f"made otherwise: {'.'.join(way)} {str(inner[way[-1]])[:20]} (now "
    refused(run(command, place, limits), file, what)
    assert (place / file).read_bytes() == kept
    assert {n: h for n, h in contents(place).items() if n in before} == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["more", "fewer", "other datasets"])
def test_more_or_fewer_things(name, change, world, tmp_path):
    kind, file, command, settings = FILES[name]
    place = copy(world, tmp_path / "w", file)
    content = read(place / file)
    if change == "more":
        content["identity"]["hair"] = "long"
        says = "made otherwise: hair long (now None)"
    elif change == "fewer":
        del content["identity"]["weights"]
        says = "made otherwise: weights None (now "
    else:
        field = "trained_on" if settings else "tested_on"
        content["identity"][field] = {"SUN397": content["identity"][field]["DTD"]}
        says = f"{field}.SUN397 "
    write(place / file, content)
    refused(run(command, place, limits), file, says)


@pytest.mark.parametrize("name", FILES)
def test_force_replaces_it(name, world, undamaged, tmp_path):
    _, file, command, _ = FILES[name]
    place = copy(world, tmp_path / "w", file)
    content = read(place / file)
    content["identity"]["weights"] = "0"
    write(place / file, content)
    ended = run(f"{command} --force", place, limits)
    COUNTS["fault cases"] += 1
    whole, made = undamaged(command)
    COUNTS["wrong numbers"] += ended.out != whole.out
    assert (ended.code, ended.out) == (0, whole.out), ended.err
    assert {n: h for n, h in prompts(place).items() if os.path.dirname(n) == os.path.dirname(file)}.items() <= made.items()


@pytest.mark.parametrize("command", EARLIER)
@pytest.mark.parametrize("file", ["zeroshot/other/Food101.json", "finetune/coop-meta-new/SUN397-seed3.json",
                                  "meta/promptsrc-seed7/settings.json"])
def test_results_of_an_earlier_version_are_refused_before_any_work(command, file, world, tmp_path):
    place = copy(world, tmp_path / "w")
    (place / "w.pt").unlink()  # isn't even asked for
    path = place / "runs/paper" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"accuracies": {"all": 50.0}, "made_from": {"settings": {}}, "made_by": {"commit": "c"}}))
    before = contents(place)
    refused(run(command, place, limits), file, "from another version of this project; move that folder away")
    assert contents(place) == before
