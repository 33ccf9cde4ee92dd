"""What doesn't belong together isn't mixed: files copied over each other's names, two inputs into one --out, other settings
for a run that was interrupted, prompts of one name, layers whose numbers have two digits."""
import os
import random
import shutil

import pytest
import torch

from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.learners import make_learner
from mp.prompts import open_prompt, write_prompt
from tests.rehearsal import SMALL, random_state
from tests.robustness import faults
from tests.robustness.counts import COUNTS
from tests.robustness.faults import (AVERAGED, META, PROMPT, RESULT, STATE, TUNE, TUNE_DEEP, TUNED, TUNED_PROMPT, TUNING_STATE, ZEROSHOT,
                                     contents, copy, find, finished, limits, run)
from tests.robustness.tiny import change_data

META_COOP = META.format("coop")
DEEP = SMALL | dict(image_layers=12, text_layers=12)
DEEP_META = "meta --method promptsrc --depth 12 --shots 3 --support 2 --data data --weights deep.pt --datasets dtd --out deep"
OTHERS = {  # what other inputs leave: a change of the commands, and how they end
    "settings": lambda command: f"{command} --length 3" if "--method" in command else f"{command} --prompt 'my {{}}.'",
    "weights": lambda command: command.replace("w.pt", "other.pt"), "images": lambda command: command.replace("--data data", "--data other"),
    "precision": lambda command: f"{command} --precision bf16",
}
KINDS = {  # of files: one of the world, the command that makes it, and whether an interrupted one leaves it
    "result": (RESULT, f"{ZEROSHOT} dtd", False), "tuned": (TUNED, TUNE, False), "tuned prompt": (TUNED_PROMPT, TUNE, False),
    "meta-prompt": (PROMPT, META_COOP, False), "meta state": (STATE, META.format("cocoop"), True),
    "tuning state": (TUNING_STATE, f"{TUNE} --seeds 2", True),
}


def accuracies(ended):
    """DTD's numbers: the handcrafted prompt's, then each column's and its gain."""
    line, = (line for line in ended.out.splitlines() if line.startswith("DTD"))
    return line.split()[1:]


@pytest.fixture(scope="module")
def mixed(world, tmp_path_factory):
    """The world, and beside each kind of its files those that other settings, weights, images and precision leave."""
    place = copy(world, tmp_path_factory.mktemp("mixed") / "w")
    torch.save(random_state(SMALL, 5), place / "other.pt")
    change_data(place / "data", place / "other", "a label")
    for command, stops in dict.fromkeys((command, stops) for _, command, stops in KINDS.values()):
        for change in OTHERS.values():
            ended = run(change(command), place, faults.interrupt_after_an_epoch if stops else limits)
            assert ended.code == 130 * stops, ended.err
    return place


def alike(place, file):
    """Return six other files of the same ending, the first three from beside it, whatever they are of."""
    ending = "state-*.pt" if "state-" in file else "prompt.pt" if file.endswith("prompt.pt") else ".json"
    found = {str(path.relative_to(place)) for path in place.glob(f"runs/paper/**/*{ending}") if path.name != "settings.json"}
    near = [name for name in sorted(found - {file}) if os.path.dirname(name) == os.path.dirname(file)]
    far = sorted(found - {file, *near})
    count = min(3, len(near))
    chosen = random.Random(ending).sample(near, count) + random.Random(ending).sample(far, 6 - count)
    assert len(chosen) == 6
    return chosen


@pytest.mark.parametrize("kind", KINDS)
def test_files_copied_over_each_others_names(kind, mixed, world, undamaged, tmp_path):
    """Such a file counts as damaged; the copies' own commands go on with what is theirs."""
    pattern, command, _ = KINDS[kind]
    file = find(world, pattern)
    for number, source in enumerate(alike(mixed, file)):
        place = copy(world, tmp_path / f"w{number}", file)
        shutil.copy(mixed / source, place / file)
        if kind == "tuned prompt":  # which isn't opened beside its result
            (place / find(place, TUNED)).unlink()
        faults.made_anew(place, file, command, undamaged)


@pytest.mark.parametrize("pattern, folder", [(RESULT, "zeroshot"), (TUNED, "finetune")])
def test_a_table_leaves_out_a_result_of_something_else(pattern, folder, mixed, world, tmp_path):
    file = find(world, pattern)
    for number, source in enumerate(alike(mixed, file)):
        place = copy(world, tmp_path / f"w{number}", file)
        shutil.copy(mixed / source, place / file)
        before = contents(place)
        ended = run("table --data data --datasets dtd --absolute", place, limits)
        COUNTS["fault cases"] += 1
        assert ended.code == 0 and accuracies(ended)[1 if folder == "zeroshot" else 5] == "-", ended.err
        assert contents(place) == before


def test_a_table_does_not_mix_weights(world, tmp_path):
    """Results of two, whose files nobody names, are refused with both paths; with --weights each shows its own."""
    place, numbers = copy(world, tmp_path / "w"), {}
    torch.save(random_state(SMALL, 5), place / "other.pt")
    for weights in ("w.pt", "other.pt"):
        numbers[weights] = accuracies(run(f"zeroshot --data data --datasets dtd imagenet --weights {weights} --out o", place))[:4]
    table = "table --data data --datasets dtd --absolute --out o"
    ended = run(table, place, limits)
    COUNTS["fault cases"] += 1
    message, = ended.messages()
    assert ended.code == 2 and ended.out == "" and "made with different weights; " in message
    assert message.count("o/paper/zeroshot/handcrafted/DTD-") == 2
    for weights in numbers:
        shown = run(f"{table} --weights {weights}", place, limits)
        rows = shown.out[shown.out.index("DTD"):].splitlines()[:4]
        COUNTS["fault cases"] += 1
        COUNTS["wrong numbers"] += [row.split()[-10] for row in rows] != numbers[weights]
        assert [row.split()[-10] for row in rows] == numbers[weights], ended.err


def test_the_same_data_in_another_folder(world, undamaged, tmp_path):
    """Where it lies doesn't matter."""
    for command in (f"{ZEROSHOT} dtd", META_COOP, TUNE):
        place = copy(world, tmp_path / f"w{len(command)}")
        os.rename(place / "data", place / "moved")
        ended = run(command.replace("--data data", "--data moved"), place)
        COUNTS["fault cases"] += 1
        assert (ended.code, ended.out) == (0, undamaged(command)[0].out), ended.err


def test_two_prompts_of_the_same_name(world, tmp_path):
    """Both are evaluated, each under its own path; the same one given twice is one column."""
    place = copy(world, tmp_path / "w", "p.pt")
    for number in (1, 2):
        (place / f"{number}/seed").mkdir(parents=True)
        file = torch.load(place / "p.pt", weights_only=True)
        if number == 2:
            file["params"]["ctx"] = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
        torch.save(file, place / f"{number}/seed/prompt.pt")
    one, two = "1/seed/prompt.pt", "2/seed/prompt.pt"
    alone = [accuracies(run(f"{ZEROSHOT} dtd --method coop --prompt {path} --out o{path[0]}", place)) for path in (one, two)]
    both = run(f"{ZEROSHOT} dtd --method coop --prompt {one} {two} {one}", place)
    COUNTS["fault cases"] += 1
    found = accuracies(both)
    COUNTS["wrong numbers"] += found != alone[0] + alone[1][4:]
    assert both.code == 0 and found == alone[0] + alone[1][4:] and alone[0] != alone[1]
    assert both.out.splitlines()[0].split() == ["handcrafted", one, "gain", two, "gain"]
    assert len(list((place / "runs/paper/zeroshot").glob("coop-*/DTD-*.json"))) == 2


@pytest.mark.parametrize("file, command, option", [
    (TUNING_STATE, f"{TUNE} --seeds 2", "--lr 0.1"), (TUNING_STATE, f"{TUNE} --seeds 2", "--precision bf16"),
    (AVERAGED, TUNE_DEEP, "--gpa-mean 2"), (AVERAGED, TUNE_DEEP, "--depth 3"),
    (STATE, META.format("cocoop"), "--epochs 1"), (STATE, META.format("cocoop"), "--weights other.pt"),
])
def test_an_interrupted_run_with_other_settings(file, command, option, world, undamaged, tmp_path):
    """They start from nothing, and the state stays, with which the old ones go on."""
    place = copy(world, tmp_path / "w")
    torch.save(random_state(SMALL, 5), place / "other.pt")
    fresh, state = copy(place, tmp_path / "fresh"), find(place, file)
    shutil.rmtree(fresh / "runs")
    content = (place / state).read_bytes()
    anew, ended = (run(f"{command} {option}", one, limits) for one in (fresh, place))
    COUNTS["fault cases"] += 1
    COUNTS["wrong numbers"] += ended.out != anew.out or not finished(fresh).items() <= finished(place).items()
    assert (ended.code, ended.out) == (anew.code, anew.out) == (0, anew.out)
    assert finished(fresh).items() <= finished(place).items() and (place / state).read_bytes() == content
    ended = run(command, place)
    COUNTS["wrong numbers"] += ended.out != undamaged(command)[0].out
    assert (ended.code, ended.out) == (0, undamaged(command)[0].out) and not (place / state).exists()


@pytest.mark.parametrize("second", [f"{ZEROSHOT} dtd --prompt meta --method coop --out o", f"{TUNE} --init meta --out o"])
def test_two_meta_prompts_that_would_fit_are_refused(second, world, tmp_path):
    """They differ in images, which who only uses a prompt doesn't ask for; with one of them moved away the other is used."""
    place, learn = copy(world, tmp_path / "w"), "meta --method coop --weights w.pt --datasets dtd --out o --data"
    change_data(place / "data", place / "other", "a label")
    for data in ("data", "other"):
        assert run(f"{learn} {data}", place).code == 0
    ended = run(second, place, limits)
    COUNTS["fault cases"] += 1
    message, = ended.messages()
    folders = sorted((place / "o/paper/meta").iterdir())
    assert ended.code == 2 and all(folder.name in message for folder in folders) and len(folders) == 2 and ";" in message
    shutil.rmtree(folders[0])
    assert run(second, place, limits).code == 0


# Layers by numbers of two digits

def interrupted(command, place):
    ended = run(command, place, faults.interrupt_after_an_epoch)
    assert ended.code == 130
    return run(command, place)


@pytest.fixture(scope="module")
def deep(world, tmp_path_factory):
    """A world with towers of twelve layers, and a prompt of that depth whose layers all differ widely."""
    place = copy(world, tmp_path_factory.mktemp("deep") / "w")
    torch.save({k: v.half() for k, v in random_state(DEEP).items()}, place / "deep.pt")
    clip = load(place / "deep.pt")
    learner = make_learner("promptsrc", clip, 12, 4, torch.Generator().manual_seed(3))
    for number, tensor in enumerate(learner.state_dict().values()):
        tensor += torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number))
    write_prompt(place / "deep_prompt.pt", "promptsrc", learner.state_dict(), {}, {})
    return place, clip, learner


def plain_text_features(clip: CLIP, learner, names):
    """Layer by layer, the prompts named by their numbers, with padding: nothing of mp/learners but the tensors."""
    from mp.clip.tokenizer import tokenize
    tensors, features = learner.state_dict(), []
    for name in names:
        ids = tokenize(f"a photo of a {name}.")
        x = clip.token_embedding(ids)[0]
        x = torch.cat([x[:1], tensors["ctx"], x[5:]]) + clip.positional_embedding
        for layer, block in enumerate(clip.transformer.resblocks):
            if layer:
                x = torch.cat([x[:1], tensors[f"text.{layer}"], x[5:]])
            x = block(x[None], True)[0]
        x = clip.ln_final(x[ids.argmax()]) @ clip.text_projection
        features.append(x / x.norm())
    return torch.stack(features)


def plain_image_features(clip: CLIP, learner, images):
    tensors, tower = learner.state_dict(), clip.visual
    x = tower.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], 1) + tower.positional_embedding
    own = x.shape[1]
    x = tower.ln_pre(torch.cat([x, tensors["vision.0"].expand(len(x), -1, -1)], 1))
    for layer, block in enumerate(tower.transformer.resblocks):
        if layer:
            x = torch.cat([x[:, :own], tensors[f"vision.{layer}"].expand(len(x), -1, -1)], 1)
        x = block(x, False)
    x = tower.ln_post(x[:, 0]) @ tower.proj
    return x / x.norm(dim=-1, keepdim=True)


@torch.no_grad()
def test_the_eleventh_layers_prompt_is_the_eleventh(deep):
    place, clip, saved = deep
    learner = make_learner("promptsrc", clip, 12, 4)
    learner.load_state_dict(open_prompt(place / "deep_prompt.pt").params)
    names, images = ["cat", "sea or lake"], torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    classes = learner.prepare(clip, names)
    assert list(learner.text) == [str(i) for i in range(1, 12)] and list(learner.vision) == [str(i) for i in range(12)]
    torch.testing.assert_close(learner.text_features(clip, classes.prompts), plain_text_features(clip, saved, names),
                               rtol=0, atol=1e-4)
    torch.testing.assert_close(learner.image_features(clip, images), plain_image_features(clip, saved, images),
                               rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", [sorted, reversed], ids=["as text", "reversed"])
def test_the_order_in_a_prompt_file_does_not_matter(order, deep, tmp_path):
    place = copy(deep[0], tmp_path / "w")
    command = ZEROSHOT.replace("w.pt", "deep.pt") + " dtd imagenet --method promptsrc --prompt {} --out {}"
    expected = run(command.format("deep_prompt.pt", "o1"), place)
    file = torch.load(place / "deep_prompt.pt", weights_only=True)
    names = list(order(list(file["params"])))
    assert names != list(file["params"])
    torch.save(file | {"params": {name: file["params"][name] for name in names}}, place / "other_order.pt")
    ended = run(command.format("other_order.pt", "o2"), place)
    COUNTS["fault cases"] += 1
    same = ended.out.split()[3:] == expected.out.split()[3:]
    COUNTS["wrong numbers"] += not same
    assert ended.code == expected.code == 0 and same
    assert find(place / "o1", "paper/zeroshot/prom*/DTD-*.json") == find(place / "o2", "paper/zeroshot/prom*/DTD-*.json")


def as_text(value):
    """The same with every dict in the order of its names as text."""
    return {name: as_text(inner) for name, inner in sorted(value.items())} if isinstance(value, dict) else value


@pytest.mark.parametrize("command", [
    DEEP_META, "finetune --method promptsrc --depth 12 --init deep_prompt.pt --data data --weights deep.pt --datasets dtd --out deep"])
def test_deep_prompts_go_on_with_the_same_bits(command, deep, tmp_path):
    """An interrupted run's state, in whatever order it holds the layers."""
    whole, broken, shuffled = (copy(deep[0], tmp_path / name) for name in ("whole", "broken", "shuffled"))
    expected, ended = run(command, whole), interrupted(command, broken)
    COUNTS["fault cases"] += 1
    COUNTS["wrong numbers"] += ended.out != expected.out
    assert (ended.code, ended.out) == (expected.code, expected.out) == (0, expected.out)
    assert faults.prompts(broken) == faults.prompts(whole)
    assert run(command, shuffled, faults.interrupt_after_an_epoch).code == 130
    path, = shuffled.rglob("deep/**/*state-*.pt")
    state = torch.load(path, weights_only=True)
    torch.save(state | {"state": as_text(state["state"])}, path)
    assert list(torch.load(path, weights_only=True)["state"]["params"]) != list(state["state"]["params"])
    assert run(command, shuffled).out == expected.out
    assert faults.prompts(shuffled) == faults.prompts(whole)
