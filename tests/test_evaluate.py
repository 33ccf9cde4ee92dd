"""Base, new and all from one pass, against one evaluation for each; features of frozen CLIP are computed once."""
import os

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import DataError, Dataset, Item, class_range, few_shot, restrict
from data.feed import Feed
from mp import evaluate
from mp.learners.cocoop import CoCoOp
from mp.learners.coop import CoOp
from mp.evaluate import TestSet as Evaluation
from mp.evaluate import accuracies, words_classifier
from mp.learners.promptsrc import PromptSRC
from mp.learners.prompts import class_prompts, template_features
from mp.store import features
from tests.trainings import session_of


def evaluation(dataset, clip, *recall):
    return Evaluation(dataset, clip, lambda: Feed(clip.visual.image_size, workers=0).plain(dataset.test), *recall)


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    items = [Item(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8), label) for label in range(5) for _ in range(6)]
    return Dataset("five", "a photo of a {}.", ["cat", "dog", "t-rex", "sea or lake", "café"], items, items)


@pytest.mark.parametrize("at_once, sizes", [(7, [7, 7, 7, 7, 2]), (10, [10, 10, 10])])
def test_features_are_classified_some_at_a_time(at_once, sizes, clip, dataset, monkeypatch):
    """With the same logits as all together, in the same order."""
    learner, test, seen, judged = CoCoOp(clip), evaluation(dataset, clip), [], []
    classify = learner.classifier(clip, class_prompts(clip, dataset.classes))
    monkeypatch.setattr(learner, "classifier", lambda *_: lambda some: seen.append(len(some)) or classify(some))
    monkeypatch.setattr(evaluate, "FEATURES_AT_ONCE", at_once)
    monkeypatch.setattr(evaluate, "accuracies", lambda logits, labels: judged.append(logits) or {})
    test.learnt(learner)
    assert seen == sizes
    torch.testing.assert_close(judged[0], classify(test.features).detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("learner", [CoOp, CoCoOp, lambda clip: PromptSRC(clip, 3)], ids=["coop", "cocoop", "promptsrc"])
def test_parts_equal_separate_evaluations(learner, clip, dataset):
    learner = learner(clip)
    whole = evaluation(dataset, clip).learnt(learner)
    for part in ("base", "new", "all"):
        labels = class_range(5, part)
        names = dataset.classes[labels.start : labels.stop]
        test = restrict(dataset.test, 5, part)
        alone = Dataset("part", dataset.template, names, test, test)
        assert whole[part] == evaluation(alone, clip).learnt(learner)["all"]


def test_accuracies_count_by_hand():
    logits = torch.tensor([[9.0, 1, 8, 0], [5, 9, 0, 0], [0, 9, 5, 1], [9, 0, 5, 6]])  # classes 0, 1 base; 2, 3 new
    assert accuracies(logits, torch.tensor([0, 0, 2, 2])) == {"base": 50.0, "new": 50.0, "all": 25.0}
    assert accuracies(logits[:2], torch.tensor([0, 0])) == {"base": 50.0, "all": 50.0}


def test_base_images_are_judged_among_base_classes_alone():
    """Where a new class's logit is the highest, as after fine-tuning on base classes a base one's is for new images."""
    base = torch.tensor([[3.0, 2, 1, 9, 8], [2, 3, 1, 9, 8], [1, 2, 3, 9, 8], [3, 2, 1, 9, 8]])
    new = torch.tensor([[9.0, 8, 7, 2, 1], [9, 8, 7, 1, 2], [9, 8, 7, 2, 1]])
    found = accuracies(torch.cat([base, new]), torch.tensor([0, 1, 2, 1, 3, 4, 4]))  # 0 to 2 are base, of 5
    assert found == {"base": 75.0, "new": pytest.approx(200 / 3), "all": 0.0}


def test_of_classes_that_tie_the_first_is_taken():
    """So that classes which a prompt can't tell apart aren't all right."""
    tied = torch.zeros(4, 4)
    assert accuracies(tied, torch.tensor([0, 1, 2, 3])) == {"base": 50.0, "new": 50.0, "all": 25.0}


def test_a_part_of_one_class_has_no_accuracy():
    """It would be 100, whatever the prompt."""
    logits = torch.tensor([[9.0, 1, 8], [5, 9, 0], [0, 9, 5], [9, 0, 5]])
    assert accuracies(logits, torch.tensor([0, 0, 2, 2])) == {"base": 50.0, "all": 25.0}
    assert accuracies(logits[:, :2], torch.tensor([0, 0, 1, 1])) == {"all": 50.0}
    assert accuracies(logits[:, :1], torch.tensor([0, 0, 0, 0])) == {}


def test_frozen_features_are_computed_once(clip, dataset, monkeypatch):
    calls = []
    encode = type(clip).encode_image
    monkeypatch.setattr(type(clip), "encode_image", lambda self, x, *a: calls.append(len(x)) or encode(self, x, *a))
    test = evaluation(dataset, clip)
    test.handcrafted("a photo of a {}.")
    test.handcrafted("a {}.")
    test.learnt(CoOp(clip))
    test.learnt(CoCoOp(clip))
    assert sum(calls) == len(dataset.test)


def test_zero_shot_equals_the_handcrafted_learner(clip, dataset):
    """CoOp's start is "a photo of a", so as a learner and as a template it classifies alike."""
    test = evaluation(dataset, clip)
    assert test.learnt(CoOp(clip)) == test.handcrafted("a photo of a {}.")


def test_small_classes_are_named_and_used(dataset, capsys):
    items = [item for item in dataset.train if item.label != 2] + dataset.train[12:14]
    session = session_of(None, dataset.classes, items=items)
    drawn, digits = session.draw_shots("five", 4, seed=1)
    assert drawn == few_shot(items, 4, 1) and len(drawn) == 4 * 4 + 2 and digits == dataset.fingerprint(drawn)
    base, digits = session.draw_shots("five", 4, seed=1, part="base")
    assert base == restrict(drawn, 5, "base") and len(base) == 2 * 4 + 2 and digits == dataset.fingerprint(base)
    assert capsys.readouterr().err.count("five: fewer than 4 training images of t-rex (2)") == 1


@pytest.fixture
def on_disk(dataset, tmp_path):
    """The same images as files."""
    items = []
    for i, item in enumerate(dataset.test):
        Image.fromarray(item.source).save(tmp_path / f"{i}.png")
        items.append(Item(str(tmp_path / f"{i}.png"), item.label))
    return Dataset("five", dataset.template, dataset.classes, items, items)


def test_features_are_kept_on_disk_and_never_trusted(clip, dataset, on_disk, cache_folder, monkeypatch, capsys):
    calls = []
    encode = type(clip).encode_image
    monkeypatch.setattr(type(clip), "encode_image", lambda self, x, *a: calls.append(len(x)) or encode(self, x, *a))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder.parent / "features-test"))

    def depends_on(images=on_disk, weights="1", machine="cpu-fp32"):
        return [weights, machine, {images.name: images.fingerprint(images.test)}]

    def cache_file(images=on_disk, **changes):
        return features.cache_file(depends_on(images, **changes), images.name, [item.source for item in images.test])

    def computes(images=on_disk, **changes):
        def recall(compute):
            sources = [item.source for item in images.test]
            return features.recall(depends_on(images, **changes), images.name, sources, expected.shape[1], compute)

        calls.clear()
        assert torch.equal(evaluation(images, clip, recall).features, expected)
        return bool(calls)

    expected = evaluation(dataset, clip).features
    assert computes() and not computes()
    for change in ({"weights": "2"}, {"machine": "cpu-bf16"}):
        assert computes(**change) and not computes(**change) and not computes()
    file = cache_file()
    whole = file.read_bytes()
    for damage in (whole[:1000], b"", b"text", whole.replace(b"data.pkl", b"date.pkl")):
        file.write_bytes(damage)
        assert computes() and not computes()
    for value in (expected[:-1], expected.double(), expected * float("nan"), {"features": expected}):
        torch.save(value, file)
        assert computes() and not computes()
    first = on_disk.test[0].source
    os.utime(first, ns=(1, 1))
    assert computes() and not computes()
    other = Dataset("five", "", on_disk.classes, on_disk.train, on_disk.test[:-1])
    assert cache_file(other) != cache_file()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert computes() and "features are computed again next time" in capsys.readouterr().err
    os.remove(first)
    with pytest.raises(DataError, match=f"{first}: no such image"):
        computes()


def test_many_class_names_with_words_pass_the_text_tower_within_the_memory(clip, monkeypatch):
    """However many there are; each budget gives the features of each class alone."""
    names = [f"{word} number {i}" for i in range(40) for word in ("cat", "red fox", "sea or lake")]
    whole = template_features(clip, "a photo of a {}.", names)
    plain, sizes = clip.encode_prompts, []

    def counted(prefix, suffix, packing, *more):
        sizes.append(prefix.shape[1] + len(suffix))  # tokens of a pass
        return plain(prefix, suffix, packing, *more)

    monkeypatch.setattr(clip, "encode_prompts", counted)
    token_bytes = clip.kept_bytes(clip.transformer) // len(clip.transformer.resblocks)
    for budget in (20, 100, 500):
        sizes.clear()
        monkeypatch.setattr(clip, "memory", budget * token_bytes)
        torch.testing.assert_close(template_features(clip, "a photo of a {}.", names), whole, rtol=1e-4, atol=1e-5)
        assert max(sizes) <= budget and len(sizes) > 1
        sizes.clear()
        words_classifier(clip, "{}", names)
        assert max(sizes) <= budget
