"""A seed decides what is drawn at random, each draw by itself, and nothing else: not what is tested on, nor what words give."""
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

import run as program
from data import folder as own
from data.dataset import Item, few_shot
from data.feed import Feed
from mp import fine_tune, load_clip, make_learner, meta_train, regulator, tasks
from mp.learners import METHODS
from mp.learners.settings import method_settings
from mp.prompts import learner_of
from mp.settings import MetaSettings, PromptSettings

SEEDS = (1, 2, 3, 2**32 - 1)


def all_differ(values):
    return all(a != b for a, b in combinations(values, 2))


def same(values):
    return all(value == values[0] for value in values)


def settings_of(method, seed, **given):
    return method_settings(MetaSettings, method, given, seed=seed)


# Few shots

def test_few_shots_of_every_class_differ():
    items = [Item(f"{label}-{i}", label) for label in range(5) for i in range(40)]
    drawn = [few_shot(items, 16, seed) for seed in SEEDS]
    assert same([few_shot(items, 16, 2) for _ in range(2)])
    for label in range(5):
        assert all_differ([{item.source for item in some if item.label == label} for some in drawn])


# Meta-training: divisions and mini-batches

LABELS = torch.arange(6).repeat_interleave(16)
DRAWS = {"seed": lambda i: (SEEDS[i], 0, 0), "epoch": lambda i: (1, i, 0), "task": lambda i: (1, 0, i)}


def drawn(seed, epoch, number, **given):
    """The images of each inner step, and of the query loss."""
    inner, query = tasks.draw_batches(tasks.Task("t", labels=LABELS), settings_of("coop", seed, **given), epoch, number)
    return [np.concatenate([part for part, _ in batch]).tolist() for batch in (*inner, query)]


@pytest.mark.parametrize("what", DRAWS)
def test_divisions_differ(what):
    """Of every class; all support images in one step, all others in the query batch."""
    divisions = [drawn(*DRAWS[what](i), inner_steps=1, batch=1000, query_batch=0) for i in range(4)]
    assert drawn(*DRAWS[what](2), inner_steps=1, batch=1000, query_batch=0) == divisions[2]
    for label in range(6):
        assert all_differ([{i for i in support if LABELS[i] == label} for support, _ in divisions])
    for support, query in divisions:
        assert sorted([*support, *query]) == list(range(96))


@pytest.mark.parametrize("what", DRAWS)
def test_mini_batches_differ_also_of_one_division(what, monkeypatch):
    monkeypatch.setattr(tasks, "divide", lambda labels, support, rng: (np.arange(30), np.arange(30, 96)))
    batches = [drawn(*DRAWS[what](i), batch=8) for i in range(4)]
    for step in range(5):  # the last: the query batch
        assert all_differ([set(some[step]) for some in batches])
    assert drawn(*DRAWS[what](2), batch=8) == batches[2]


# Starts

@pytest.mark.parametrize("method", METHODS)
def test_starts_differ_but_for_the_handcrafted_context(method, clip):
    def starts(**given):
        learners = [learner_of(method_settings(PromptSettings, method, given, seed=seed, **depth), clip) for seed in SEEDS]
        return {name: [one.state_dict()[name].tolist() for one in learners] for name in learners[0].state_dict()}

    depth = {"depth": 2}
    found = starts()
    assert same(found.pop("ctx"))
    assert found or method == "coop"
    assert all(all_differ(values) for values in found.values())
    assert starts() == starts()
    assert all_differ(starts(length=6)["ctx"])  # more vectors than "a photo of a" has


def test_starts_of_a_regulator_differ_where_they_are_random():
    phi = [regulator.start({"ctx": torch.zeros(4, 16)}, seed) for seed in SEEDS]
    assert all_differ([one["regulator.ctx.down"].tolist() for one in phi])
    assert same([one["regulator.ctx.up"].tolist() for one in phi])


# Fine-tuning: order and augmentation

PIXELS = [np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8) for i in range(30)]
EPOCHS = {"seed": lambda i: (SEEDS[i], "a", 0), "dataset": lambda i: (1, "abcd"[i], 0), "epoch": lambda i: (1, "a", i)}


def batches(seed, name, epoch, items, size):
    return list(Feed(8).augmented(items, size, seed, name)(epoch))


@pytest.mark.parametrize("what", EPOCHS)
def test_orders_differ(what):
    items = [Item(pixels, i) for i, pixels in enumerate(PIXELS)]
    orders = [[labels.tolist() for _, labels in batches(*EPOCHS[what](i), items, 7)] for i in (0, 1, 2, 3, 2)]
    assert all_differ(orders[:4]) and orders[2] == orders[4]
    assert all_differ([{*order[0]} for order in orders[:4]])  # what the first step sees
    assert all_differ([{*range(30)} - {i for batch in order for i in batch} for order in orders[:4]])  # what is left out


@pytest.mark.parametrize("what", EPOCHS)
def test_augmentations_of_one_image_differ(what):
    views = [batches(*EPOCHS[what](i), [Item(PIXELS[0], 0)], 1)[0][0].tolist() for i in (0, 1, 2, 3, 2)]
    assert all_differ(views[:4]) and views[2] == views[4]


# What no seed decides

def make_folder(folder, start):
    for label, name in enumerate(("cat", "dog", "bird")):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(PIXELS[(start + 7 * label + i) % 30][: 20 + i]).save(folder / name / f"{i}.png")
    return folder


def test_the_division_of_a_folder_of_ones_own_is_one(tmp_path):
    folder = make_folder(tmp_path / "barn", 0)
    first, again = own.load(folder), own.load(folder)
    assert first == again and not {item.source for item in first.train} & {item.source for item in first.test}


# Through the commands, and from Python

class Seen:
    """What a command shows to CLIP: plain views and augmented ones, of which images, with which seeds."""

    def __init__(self, monkeypatch, folder):
        self.plain, self.augmented, self.seeds = [], [], []
        plain, augmented = Feed.plain, Feed.augmented

        def spied_plain(feed, items):
            self.plain.append([item.source for item in items])
            return plain(feed, items)

        def spied_augmented(feed, items, batch, seed, name):
            self.augmented.append([item.source for item in items])
            self.seeds.append((seed, name))
            return augmented(feed, items, batch, seed, name)

        monkeypatch.setattr(Feed, "plain", spied_plain)
        monkeypatch.setattr(Feed, "augmented", spied_augmented)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # else features are recalled
        monkeypatch.chdir(folder)


def run(tmp_path, seeds, command, folders):
    """The images that a command sees in a folder of its own, the prompts that it leaves, and its table."""
    place = tmp_path / f"runs of {seeds}"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        seen = Seen(patch, place)
        assert program.main([*command.split(), *folders, "--seeds", *seeds.split()]) == 0
    contents = [torch.load(path, weights_only=True) for path in sorted(place.rglob("*prompt.pt"))]
    return seen, [content["params"] | content.get("regulator", {}) for content in contents]


COMMANDS = {"meta": "meta --method cocoop --regulator --epochs 1 --shots 4 --support 2 --inner-steps 1 --batch 4 --tasks",
            "finetune": "finetune --method cocoop --epochs 1 --shots 3 --batch 4 --datasets"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_draws_anew_for_each_seed_and_tests_on_the_same(command, tmp_path):
    folders = [make_folder(tmp_path / name, start) for start, name in enumerate(("barn", "farm"))]
    tested = [[item.source for item in own.load(folder).test] for folder in folders]
    where = [str(folder) for folder in folders] + (["--datasets", str(folders[0])] if command == "meta" else [])
    alone = {seeds: run(tmp_path, seeds, COMMANDS[command], where) for seeds in ("1", "2")}
    both, prompts = run(tmp_path, "1 2 1", COMMANDS[command], where)
    shown = {seeds: [images for images in seen.plain + seen.augmented if images not in tested] for seeds, (seen, _) in alone.items()}
    assert all(len(images) == 2 for images in shown.values()) and all_differ([*shown["1"], *shown["2"]])
    seen_both = [images for images in both.plain + both.augmented if images not in tested]
    assert sorted(seen_both) == sorted(shown["1"] + shown["2"])
    names = {folder.name for folder in folders}
    for seeds, seen in ((("1",), alone["1"][0]), (("2",), alone["2"][0]), (("1", "2"), both)):
        expected = {(int(seed), name) for seed in seeds for name in names} if command == "finetune" else set()
        assert set(seen.seeds) == expected  # of order and augmentation
        assert {tuple(images) for images in seen.plain} >= {tuple(tested[0])}
    learnt = [params for _, some in alone.values() for params in some]
    assert len(learnt) == len(prompts) == (2 if command == "meta" else 4)
    for name in learnt[0]:
        bits = {tuple(params[name].flatten().tolist()) for params in learnt}
        assert len(bits) == len(learnt) and bits == {tuple(params[name].flatten().tolist()) for params in prompts}


def test_seeds_from_python():
    clip, names = load_clip("mini"), ["cat", "dog"]
    images, labels = PIXELS[:8], [0, 1] * 4

    def ctx(train):
        return [train(make_learner("cocoop", clip), seed).ctx.tolist() for seed in (1, 2, 1)]

    for first, second, again in (
            ctx(lambda one, seed: fine_tune(one, clip, images, labels, names, epochs=2, batch=2, seed=seed)),
            ctx(lambda one, seed: meta_train(one, clip, {"t": (images, labels, names)}, epochs=1, support=2, batch=2, inner_steps=1, seed=seed))):
        assert first == again != second
