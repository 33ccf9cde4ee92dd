"""What doesn't belong together isn't mixed: a changed input has another name, a file whose content isn't what its name
says counts as damaged, and prompts of many layers keep their numbers."""
import json
import shlex
import shutil

import pytest
import torch

from mp.clip.model import CLIP
from mp.learners import make_learner
from mp.prompts import open_prompt, write_prompt
from tests.rehearsal import SMALL, random_state
from tests.robustness import tiny
from tests.robustness.faults import (AVERAGED, META, PROMPT, RESULT, STATE, TUNE, TUNE_DEEP, TUNED, TUNED_PROMPT,
                                     TUNING_STATE, USUAL_PROMPT, ZEROSHOT, contents, copy, find, finished, limits,
                                     prompts, run, unchanged)

LEARN = META.format("coop")


@pytest.mark.parametrize("command", [f"{ZEROSHOT} dtd", LEARN, TUNE])
@pytest.mark.parametrize("change", ["a class's name", "a label"])
def test_with_other_data_the_number_is_right_and_the_older_files_stay(change, command, world, tmp_path):
    """Right is what a place without any older file has."""
    place = copy(world, tmp_path / "w")
    tiny.change_data(place / "data", place / "other", change)
    fresh = copy(place, tmp_path / "fresh")
    shutil.rmtree(fresh / "runs")
    older = contents(place)
    ended, expected = (run(command.replace("--data data", "--data other"), folder) for folder in (place, fresh))
    assert (ended.code, ended.out) == (expected.code, expected.out) == (0, expected.out), ended.err
    unchanged(finished(fresh), finished(place))
    unchanged(older, contents(place))
    assert not finished(fresh).keys() & older.keys() and not list(place.rglob("*.damaged"))


@pytest.mark.parametrize("file, command, option", [
    (TUNING_STATE, f"{TUNE} --seeds 2", "--lr 0.1"), (AVERAGED, TUNE_DEEP, "--gpa-mean 2"),
    (STATE, META.format("cocoop"), "--weights other.pt"),
])
def test_an_interrupted_run_with_other_settings(file, command, option, world, undamaged, tmp_path):
    """They start from nothing, and the state stays, with which the old ones go on."""
    place = copy(world, tmp_path / "w")
    torch.save(tiny.state(5), place / "other.pt")
    fresh, state = copy(place, tmp_path / "fresh"), find(place, file)
    shutil.rmtree(fresh / "runs")
    content = (place / state).read_bytes()
    expected, ended = (run(f"{command} {option}", folder, limits) for folder in (fresh, place))
    assert (ended.code, ended.out) == (expected.code, expected.out) == (0, expected.out)
    unchanged(finished(fresh), finished(place))
    assert (place / state).read_bytes() == content
    ended = run(command, place)
    assert (ended.code, ended.out) == (0, undamaged(command)[0]) and not (place / state).exists()


# Content that isn't what its name says

FILES = {  # kind of file: an example, and the command that reads it
    "meta-prompt": (PROMPT, LEARN), "used meta-prompt": (USUAL_PROMPT, f"{ZEROSHOT} dtd --prompt meta --method coop"),
    "tuned prompt": (TUNED_PROMPT, TUNE), "meta state": (STATE, META.format("cocoop")),
    "tuning state": (TUNING_STATE, f"{TUNE} --seeds 2"), "tuned": (TUNED, TUNE),
    "zero-shot": (RESULT, f"{ZEROSHOT} dtd"),
}
OTHER = {  # changes of an identity; that identities are compared whole: tests/store/test_cells.py
    "weights": lambda identity: identity.update(weights="x"),
    "more": lambda identity: identity.update(hair="long"),
    "fewer": lambda identity: identity.pop("weights"),
    "nothing": lambda identity: identity.clear(),
    "settings of text": lambda identity: identity.update(settings="x"),
    "another type": lambda identity: identity.update(format=True, prompt=1),
}
INNER = {  # of files with settings
    "a setting": lambda identity: identity["settings"].update(batch=7),
    "an image": lambda identity: identity["trained_on"].update(DTD="x"),
}
TENSORS = {  # of files of tensors
    "a tensor": lambda identity: identity.update(weights=torch.zeros(3)),
    "a tensor for a setting": lambda identity: identity["settings"].update(batch=torch.zeros(3)),
    "a tensor for images": lambda identity: identity["trained_on"].update(DTD=torch.zeros(3)),
}
KINDS = {  # the first of each reader, with all changes
    **dict.fromkeys(("meta-prompt", "used meta-prompt", "meta state"), OTHER | INNER | TENSORS), "zero-shot": OTHER,
    **dict.fromkeys(("tuned", "tuned prompt", "tuning state"), INNER),
}


def tampered(name, change, world, tmp_path):
    """Return a place where an identity was changed, the file, and the command that reads it."""
    pattern, command = FILES[name]
    file = find(world, pattern)
    place = copy(world, tmp_path / "w", file)
    if name == "tuned prompt":  # which isn't opened beside its result
        (place / find(place, TUNED)).unlink()
    if file.endswith(".pt"):
        content = torch.load(place / file, weights_only=True)
        change(content["identity"])
        torch.save(content, place / file)
    else:
        content = json.loads((place / file).read_text())
        change(content["identity"])
        (place / file).write_text(json.dumps(content))
    return place, file, command


@pytest.mark.parametrize("name, what", [(name, what) for name, changes in KINDS.items() for what in changes])
def test_a_file_of_another_identity(name, what, world, undamaged, tmp_path):
    """It is set aside whole and made anew, and nothing else changes; by a command that doesn't train, it is refused."""
    place, file, command = tampered(name, KINDS[name][what], world, tmp_path)
    content, before = (place / file).read_bytes(), contents(place)
    ended = run(command, place, limits)
    if name == "used meta-prompt":
        message, = ended.messages()
        assert ended.code == 2 and ended.out == "" and "no meta-prompt coop-seed1; " in message
        assert " differs in " in message and contents(place) == before
        return
    assert (ended.code, ended.out, prompts(place)) == (0, *undamaged(command)), ended.err
    assert (place / f"{file}.damaged").read_bytes() == content and f"{file}: damaged; set aside" in ended.err
    unchanged(before, contents(place), file)


@pytest.mark.parametrize("name", ["zero-shot", "tuned", "meta-prompt", "meta state"])
def test_force_replaces_it(name, world, undamaged, tmp_path):
    place, _, command = tampered(name, OTHER["weights"], world, tmp_path)
    ended = run(f"{command} --force", place, limits)
    out, made = undamaged(command)
    assert (ended.code, ended.out) == (0, out) and prompts(place).keys() == made.keys(), ended.err


# Prompts by their names and numbers

def accuracies(ended):
    """Return DTD's numbers: the handcrafted prompt's, then each column's and its gain."""
    line, = (line for line in ended.out.splitlines() if line.startswith("DTD"))
    return line.split()[1:]


def test_two_prompts_of_the_same_name(world, tmp_path):
    """Both are evaluated, each under its own path; the same one given twice is one column."""
    place = copy(world, tmp_path / "w", "p.pt")
    file = torch.load(place / "p.pt", weights_only=True)
    for number in (1, 2):
        (place / f"{number}/seed").mkdir(parents=True)
        torch.save(file, place / f"{number}/seed/prompt.pt")
        file["params"]["ctx"] = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    one, two = "1/seed/prompt.pt", "2/seed/prompt.pt"
    command = f"{ZEROSHOT} dtd --method coop --prompt"
    alone = [accuracies(run(f"{command} {path} --out o{path[0]}", place)) for path in (one, two)]
    both = run(f"{command} {one} {two} {one}", place)
    assert both.code == 0 and accuracies(both) == alone[0] + alone[1][4:] and alone[0] != alone[1]
    assert both.out.splitlines()[0].split() == ["handcrafted", one, "gain", two, "gain"]
    assert len(list((place / "runs/paper/zeroshot").glob("coop-*/DTD-*.json"))) == 2


@torch.no_grad()
def test_each_of_twelve_layers_has_the_prompts_of_its_number(tmp_path):
    """And not, say, the second one the tenth's, as in the order of names."""
    with torch.device("meta"):
        clip = CLIP(**SMALL | dict(image_layers=12, text_layers=12))
    clip.load_state_dict(random_state(SMALL | dict(image_layers=12, text_layers=12)), assign=True)
    made, learner = (make_learner("promptsrc", clip, 12, 4, torch.Generator().manual_seed(seed)) for seed in (3, 4))
    write_prompt(tmp_path / "p.pt", "promptsrc", dict(sorted(made.state_dict().items())), {}, {})
    learner.load_state_dict(open_prompt(tmp_path / "p.pt").params)
    seen, names = {}, {}

    def look(block, args):
        seen[names[block]] = args[0]

    for kind, tower in (("text", clip.transformer), ("vision", clip.visual.transformer)):
        for layer, block in enumerate(tower.resblocks):
            names[block] = f"{kind}.{layer}"
            block.register_forward_pre_hook(look)
    learner.text_features(clip, learner.prepare(clip, ["cat", "sea or lake"]).prompts)
    learner.image_features(clip, torch.randn(3, 3, 32, 32))
    params = made.state_dict()
    for number in range(1, 12):
        for name in (f"text.{number}", f"vision.{number}"):
            tokens = seen[name].flatten(0, -2)
            assert all((tokens == vector).all(-1).any() for vector in params[name]), name
