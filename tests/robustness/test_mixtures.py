"""What doesn't belong together isn't mixed: two inputs into one --out, other settings for a run that was interrupted, files of
one name, layers whose numbers have two digits."""
import json
import os
import shutil

import pytest
import torch
from PIL import Image

from mp.clip.model import CLIP
from mp.clip.weights import load
from mp.learners import make_learner
from mp.prompts import open_prompt, write_prompt
from tests.rehearsal import SMALL, random_state
from tests.robustness import faults
from tests.robustness.counts import COUNTS
from tests.robustness.faults import AVERAGED, META, STATE, TUNE, TUNE_DEEP, TUNED, ZEROSHOT, contents, copy, limits, run

META_COOP = META.format("coop")
DEEP = SMALL | dict(image_layers=12, text_layers=12)
DEEP_META = "meta --method promptsrc --depth 12 --shots 3 --support 2 --data data --weights deep.pt --datasets dtd --out deep"


def refused(ended, *says):
    COUNTS["fault cases"] += 1
    assert ended.code == 2 and ended.out == "", ended.err
    message, = ended.messages()
    assert ";" in message and all(word in message for word in says), message


def accuracies(ended):
    """DTD's numbers: the handcrafted prompt's, then each column's and its gain."""
    line, = (line for line in ended.out.splitlines() if line.startswith("DTD"))
    return line.split()[1:]


@pytest.mark.parametrize("command", [f"{ZEROSHOT} dtd", META_COOP, TUNE])
def test_another_precision_in_one_out(command, world, tmp_path):
    place = copy(world, tmp_path / "w")
    assert run(f"{command} --precision bf16 --out o", place).code == 0
    before = contents(place)
    refused(run(f"{command} --precision fp32 --out o", place), "precision bf16 (now fp32)", "another --out keeps both")
    assert contents(place) == before
    assert run(f"{command} --precision fp32 --out o --force", place).code == 0


@pytest.mark.parametrize("change", ["a class's name", "an image", "a label"])
@pytest.mark.parametrize("command, what", [(f"{ZEROSHOT} dtd", "tested_on"), (META_COOP, "trained_on"), (TUNE, "trained_on")])
def test_other_data_in_one_out(command, what, change, world, tmp_path):
    """The same dataset in another folder, all of it the same but for one thing."""
    place = copy(world, tmp_path / "w")
    shutil.copytree(place / "data", place / "other")
    split_file = place / "other/dtd/split_zhou_DescribableTextures.json"
    split = json.loads(split_file.read_text())
    if change == "an image":
        for part in ("test0", "train0"):
            (place / "other/dtd/images/banded" / f"{part}.png").unlink()
            Image.new("RGB", (50, 50)).save(place / "other/dtd/images/banded" / f"{part}.png")  # of another size in bytes
    for part in ("train", "test"):
        if change == "a class's name":
            split[part] = [[path, label, name.replace("woven", "knitted")] for path, label, name in split[part]]
        elif change == "a label":
            first, last = split[part][0], split[part][-1]
            split[part][0], split[part][-1] = [last[0], *first[1:]], [first[0], *last[1:]]
    split_file.write_text(json.dumps(split))
    assert run(command, place).code == 0
    before = contents(place)
    ended = run(command.replace("--data data", "--data other"), place)
    refused(ended, f"{what}.DTD ", "(now ")
    assert before.items() <= contents(place).items()


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
    COUNTS["wrong numbers"] += found != alone[0] + alone[1][3:]
    assert both.code == 0 and found == alone[0] + alone[1][3:] and alone[0] != alone[1]
    assert both.out.splitlines()[0].split() == ["handcrafted", one, "gain", two, "gain"]
    assert len(list((place / "runs/paper/zeroshot").glob("coop-*/DTD.json"))) == 2


@pytest.mark.parametrize("file, command, option, says", [
    (f"{TUNED}2.state.pt", f"{TUNE} --seeds 2", "--lr 0.1", "settings.lr 0.002 (now 0.1)"),
    (f"{TUNED}2.state.pt", f"{TUNE} --seeds 2", "--epochs 3", "settings.epochs 2 (now 3)"),
    (f"{TUNED}2.state.pt", f"{TUNE} --seeds 2", "--momentum 0.5", "settings.momentum 0.9 (now 0.5)"),
    (f"{TUNED}2.state.pt", f"{TUNE} --seeds 2", "--weight-decay 0", "settings.weight_decay 0.0005 (now 0.0)"),
    (f"{TUNED}2.state.pt", f"{TUNE} --seeds 2", "--precision bf16", "precision fp32 (now bf16)"),
    (AVERAGED, TUNE_DEEP, "--gpa-mean 2", "settings.gpa_mean 1.5 (now 2.0)"),
    (AVERAGED, TUNE_DEEP, "--gpa-std 3", "settings.gpa_std 1.0 (now 3.0)"),
    (AVERAGED, TUNE_DEEP, "--depth 3", "settings.depth 9 (now 3)"),
    (STATE, META.format("cocoop"), "--precision bf16", "precision fp32 (now bf16)"),
    (STATE, META.format("cocoop"), "--weights other.pt", "weights "),
])
def test_an_interrupted_run_with_other_settings(file, command, option, says, world, undamaged, tmp_path):
    """Refused, and the state stays: with the old settings it goes on, with the new ones and --force it starts anew."""
    place = copy(world, tmp_path / "w")
    torch.save(random_state(SMALL, 5), place / "other.pt")
    kept = (place / file).read_bytes()
    refused(run(f"{command} {option}", place, limits), file, says)
    assert (place / file).read_bytes() == kept
    fresh, forced = copy(world, tmp_path / "fresh"), copy(world, tmp_path / "forced")
    shutil.copy(place / "other.pt", fresh)
    shutil.copy(place / "other.pt", forced)
    shutil.rmtree(fresh / "runs")
    anew = run(f"{command} {option}", fresh)
    ended = run(f"{command} {option} --force", forced)
    assert anew.code == ended.code == 0 and ended.out == anew.out
    mine = [name for name in faults.prompts(fresh) if os.path.dirname(name) == os.path.dirname(file)]
    assert mine and all(faults.prompts(forced)[name] == faults.prompts(fresh)[name] for name in mine)
    ended = run(command, place)
    COUNTS["wrong numbers"] += ended.out != undamaged(command)[0].out
    assert (ended.code, ended.out) == (0, undamaged(command)[0].out)


def test_other_settings_of_meta_training_have_a_folder_of_their_own(world, undamaged, tmp_path):
    """An interrupted run isn't touched by one whose settings are in the folder's name."""
    place, command = copy(world, tmp_path / "w"), META.format("cocoop")
    kept = (place / STATE).read_bytes()
    for option in ("--epochs 1", "--inner-lr 0.1", "--clip-norm inf", "--first-order", "--sum-tasks", "--support 1"):
        ended = run(f"{command} {option}", place)
        COUNTS["fault cases"] += 1
        assert ended.code == 0 and (place / STATE).read_bytes() == kept, ended.err
    assert run(command, place).out == undamaged(command)[0].out


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
    command = ZEROSHOT.replace("w.pt", "deep.pt") + " dtd imagenet --method promptsrc --depth 12 --prompt {} --out {}"
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
    assert [p.parent.name for p in place.glob("o1/paper/zeroshot/prom*/DTD.json")] == [
        p.parent.name for p in place.glob("o2/paper/zeroshot/prom*/DTD.json")]


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
    path, = shuffled.rglob("deep/**/*state.pt")
    state = torch.load(path, weights_only=True)
    torch.save(state | {"state": as_text(state["state"])}, path)
    assert list(torch.load(path, weights_only=True)["state"]["params"]) != list(state["state"]["params"])
    assert run(command, shuffled).out == expected.out
    assert faults.prompts(shuffled) == faults.prompts(whole)
