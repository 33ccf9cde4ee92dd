"""Nothing is mixed in silence: whatever a file depends on changes, the number is right, and the older files stay as they
are. A file whose content isn't what its name says counts as damaged."""
import json
import shlex
from dataclasses import fields

import pytest
import torch

from mp.learners.settings import hashed, method_settings
from mp.settings import FinetuneSettings, MetaSettings
from mp.store.cells import Identity
from tests.robustness import faults
from tests.robustness.counts import COUNTS
from tests.robustness.faults import (META, PROMPT, RESULT, STATE, TUNE, TUNE_DEEP, TUNED, TUNED_PROMPT, TUNING_STATE, USUAL_PROMPT, ZEROSHOT,
                                     contents, copy, find, finished, limits, prompts, run)
from tests.robustness.tiny import change_data

COMMANDS = {"zeroshot": f"{ZEROSHOT} dtd", "meta": META.format("coop"), "finetune": TUNE}
DATA = ("a class's name", "an image", "a label")
SETTINGS = {  # another value of each setting that plays a part
    "meta": dict(method="maple", seed=2, length=3, epochs=1, inner_steps=1, inner_lr=0.1, meta_lr=0.1, clip_norm="inf", shots=4, support=1,
                 batch=2, query_batch=0, first_order=True, regulator=True, sum_tasks=True),
    "finetune": dict(method="cocoop", seed=3, length=3, classes="all", epochs=3, lr=0.1, batch=3, shots=2, momentum=0.5, weight_decay=0),
    "finetune deep": dict(depth=3, gpa_mean=2, gpa_std=3),
}


def option(name, value):
    flag = f"--{'seeds' if name == 'seed' else name.replace('_', '-')}"
    return flag if value is True else f"{flag} {value}"


TRIED = ("method", "seed", "shots", "classes", "gpa_mean")  # each changes the digits: tests/store/test_cells.py walks over all
CHANGES = [  # a command, and what is added to it, or replaced
    *((command, "--data data", f"--data {shlex.quote(thing)}") for command in COMMANDS.values() for thing in DATA),
    *((command, "w.pt", "other.pt") for command in COMMANDS.values()),
    *((command, "", " --precision bf16") for command in COMMANDS.values()),
    (COMMANDS["zeroshot"], "", " --prompt 'my {}.'"), (TUNE, "", " --init p.pt"), (TUNE, "", " --init meta"),
    *((COMMANDS["meta"], "", f" {option(name, value)}") for name, value in SETTINGS["meta"].items() if name in TRIED),
    *((TUNE, "", f" {option(name, value)}") for name, value in SETTINGS["finetune"].items() if name in TRIED),
    *((TUNE_DEEP, "", f" {option(name, value)}") for name, value in SETTINGS["finetune deep"].items() if name in TRIED),
]


def changed(command, before, after):
    return command.replace(before, after) if before else command + after


def test_every_setting_is_changed_here():
    def of(kind, method):
        return hashed(method_settings(kind, method, {})).keys()

    assert SETTINGS["meta"].keys() == of(MetaSettings, "coop")
    assert SETTINGS["finetune"].keys() == of(FinetuneSettings, "coop")
    assert SETTINGS["finetune"].keys() | SETTINGS["finetune deep"].keys() == of(FinetuneSettings, "promptsrc")


@pytest.fixture(scope="module")
def changed_world(world, tmp_path_factory):
    """A world with other weights, and the same data in other folders, all of it the same but for one thing."""
    place = copy(world, tmp_path_factory.mktemp("changed") / "w")
    state = torch.load(place / "w.pt", weights_only=True)
    torch.save(state | {"text_projection": state["text_projection"] + 0.01}, place / "other.pt")
    for thing in DATA:
        change_data(place / "data", place / thing, thing)
    return place


@pytest.mark.parametrize("command, before, after", CHANGES)
def test_whatever_changes_the_number_is_right_and_the_older_files_stay(command, before, after, changed_world, tmp_path):
    """Right is what a place without any older file has."""
    place, fresh = copy(changed_world, tmp_path / "w"), copy(changed_world, tmp_path / "fresh")
    for path in [*fresh.glob("runs/paper/zeroshot/*/*"), *fresh.glob("runs/paper/finetune/*/*"), *fresh.glob("runs/paper/meta/*-shots*/*")]:
        path.unlink()
    older, states = contents(place), list(place.rglob("*state-*.pt"))
    ended, expected = (run(changed(command, before, after), one) for one in (place, fresh))
    COUNTS["fault cases"] += 1
    COUNTS["wrong numbers"] += ended.out != expected.out or not finished(fresh).items() <= finished(place).items()
    assert (ended.code, ended.out) == (expected.code, expected.out) == (0, expected.out), ended.err
    assert finished(fresh).items() <= finished(place).items()
    assert older.items() <= contents(place).items() and not list(place.rglob("*.damaged"))
    assert all(path.exists() for path in states)
    assert finished(fresh).keys() - older.keys()  # it has another name


# Content that isn't what its name says

IMAGES = {"trained_on": {"DTD": "x"}, "tested_on": {"DTD": "x"}}
FILES = {  # kind of file: an example, the command that reads it, what its identity holds, its settings
    "meta-prompt": (PROMPT, META.format("coop"), ("trained_on",), MetaSettings),
    "used meta-prompt": (USUAL_PROMPT, f"{ZEROSHOT} dtd --prompt meta --method coop", ("trained_on",), MetaSettings),
    "meta state": (STATE, META.format("cocoop"), ("trained_on",), MetaSettings),
    "tuning state": (TUNING_STATE, f"{TUNE} --seeds 2", ("trained_on",), FinetuneSettings),
    "tuned prompt": (TUNED_PROMPT, TUNE, ("trained_on",), FinetuneSettings),
    "tuned": (TUNED, TUNE, ("trained_on", "tested_on"), FinetuneSettings),
    "zero-shot": (RESULT, f"{ZEROSHOT} dtd", ("tested_on",), None),
}


def ways():
    """Yield every thing that every kind of file depends on: the way to it in the identity. Of
    the settings, all are enough of one kind: identities are compared whole."""
    for name, (_, command, images, kind) in FILES.items():
        if kind:
            method = "cocoop" if "cocoop" in command else "coop"
            settings = list(hashed(method_settings(kind, method, {})))
            yield from ((name, ("settings", setting)) for setting in settings[: None if name == "meta-prompt" else 1])
        yield from ((name, (field, "DTD")) for field in images)
        yield from ((name, (field.name,)) for field in fields(Identity) if field.name not in ("settings", *images))


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


def tampered(name, change, world, tmp_path):
    """Return a place where an identity was changed, the file, and the command that reads it."""
    pattern, command, _, _ = FILES[name]
    file = find(world, pattern)
    place = copy(world, tmp_path / "w", file)
    if name == "tuned prompt":  # which isn't opened beside its result
        (place / find(place, TUNED)).unlink()
    content = read(place / file)
    change(content["identity"])
    write(place / file, content)
    return place, file, command


def counts_as_damaged(name, place, file, command, undamaged):
    """It is made anew; by a command that doesn't train, refused."""
    if name != "used meta-prompt":
        faults.made_anew(place, file, command, undamaged)
        return
    before, ended = contents(place), run(command, place, limits)
    COUNTS["fault cases"] += 1
    message, = ended.messages()
    assert ended.code == 2 and ended.out == "" and "no meta-prompt coop-seed1; " in message and " differs in " in message
    assert contents(place) == before


@pytest.mark.parametrize("name, way", [pytest.param(name, way, id=f"{name}: {'.'.join(way)}") for name, way in ways()])
def test_a_file_of_another_identity(name, way, world, undamaged, tmp_path):
    def change(identity):
        for key in way[:-1]:
            identity = identity[key]
        identity[way[-1]] = other(identity[way[-1]])

    counts_as_damaged(name, *tampered(name, change, world, tmp_path), undamaged)


ODD = {
    "more": lambda identity: identity.update(hair="long"), "fewer": lambda identity: identity.pop("weights"),
    "nothing": lambda identity: identity.clear(), "settings of text": lambda identity: identity.update(settings="x"),
    "another type": lambda identity: identity.update(format=True, prompt=1),
    "other datasets": lambda identity: [identity.update({field: {"SUN397": "x"}}) for field in IMAGES if identity[field]],
}
READ_ALIKE = ("tuning state", "tuned prompt", "zero-shot")  # as others here are
TENSORS = {  # in a file of tensors
    "a tensor": lambda identity: identity.update(weights=torch.zeros(3)),
    "a tensor for a setting": lambda identity: identity["settings"].update(batch=torch.zeros(3)),
    "a tensor for images": lambda identity: identity["trained_on"].update(DTD=torch.zeros(3)),
}


@pytest.mark.parametrize("name, what", [(name, what) for name in FILES if name not in READ_ALIKE for what in [*ODD, *(TENSORS if ".pt" in FILES[name][0] else ())]])
def test_odd_identities(name, what, world, undamaged, tmp_path):
    counts_as_damaged(name, *tampered(name, (ODD | TENSORS)[what], world, tmp_path), undamaged)


@pytest.mark.parametrize("name", [name for name in FILES if name != "used meta-prompt"])
def test_force_replaces_it(name, world, undamaged, tmp_path):
    place, file, command = tampered(name, lambda identity: identity.update(weights="0"), world, tmp_path)
    ended = run(f"{command} --force", place, limits)
    COUNTS["fault cases"] += 1
    whole, made = undamaged(command)
    COUNTS["wrong numbers"] += ended.out != whole.out or prompts(place).keys() != made.keys()
    assert (ended.code, ended.out) == (0, whole.out) and prompts(place).keys() == made.keys(), ended.err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("file", ["zeroshot/handcrafted/DTD.json", "finetune/coop-handcrafted-base/DTD-seed1.json", "meta/coop-shots3-support2-seed1/prompt.pt"])
def test_results_of_an_earlier_version_are_named_and_left(command, file, world, undamaged, tmp_path):
    place = copy(world, tmp_path / "w")
    path = place / "runs/paper" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"accuracies": {"all": 51.5}, "made_from": {"settings": {}}, "made_by": {"commit": "c"}}))
    before = contents(place)
    ended = run(COMMANDS[command], place, limits)
    COUNTS["fault cases"] += 1
    assert (ended.code, ended.out) == (0, undamaged(COMMANDS[command])[0].out), ended.err
    assert ended.err.count("from an earlier version of this project") == 1 and f"{file}: from an earlier version" in ended.err
    assert contents(place) == before
