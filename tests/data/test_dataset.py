"""Few-shot sampling and the base/new division, against lists made with the original benchmarks' code; fingerprints."""
import random
from dataclasses import replace

import numpy as np
import pytest

from data.dataset import DataError, Dataset, Item, class_range, few_shot, restrict


@pytest.mark.parametrize("case", range(3))
def test_few_shot_equals_the_published_benchmarks(golden_json, case):
    golden = golden_json["fewshot"]
    train = [Item(path, label) for path, label, _ in golden[0]["train_items"]]
    test = [Item(path, label) for path, label, _ in golden[0]["test_items"]]
    n_classes = 1 + max(item.label for item in train)
    drawn = few_shot(train, golden[case]["shots"], golden[case]["seed"])
    for part in ("all", "base", "new"):
        expected = golden[case][part]
        assert [list(i) for i in restrict(drawn, n_classes, part)] == expected["train"]
        assert [list(i) for i in restrict(test, n_classes, part)] == expected["test"]


def published_draw(items, shots, seed):
    """As the benchmarks' code draws, from Python's global generator: sampled where there are enough, else all."""
    state = random.getstate()
    random.seed(seed)
    groups = {}
    for item in items:
        groups[item.label] = [*groups.get(item.label, []), item]
    drawn = []
    for group in groups.values():
        drawn += group if len(group) < shots else random.sample(group, shots)
    random.setstate(state)
    return drawn


@pytest.mark.parametrize("sizes", [(16, 16, 20), (15, 16, 17), (17, 15, 16), (16,), (1, 30)])
def test_a_class_of_exactly_as_many_images_as_shots_is_sampled_too(sizes):
    """All are taken, but in a drawn order, and the next class's draw comes after it. Golden classes have 5 or 40."""
    for seed in (1, 2):
        items = [Item(f"{label}/{i}", label) for label, size in enumerate(sizes) for i in range(size)]
        random.Random(0).shuffle(items)  # so that classes don't appear in the order of their labels
        drawn = few_shot(items, 16, seed)
        assert drawn == published_draw(items, 16, seed)
        counts = [sum(item.label == label for item in drawn) for label in range(len(sizes))]
        assert counts == [min(16, size) for size in sizes]


@pytest.mark.parametrize("n, base, new", [(1, [0], []), (2, [0], [1]), (3, [0, 1], [2]), (4, [0, 1], [2, 3]),
                                          (5, [0, 1, 2], [3, 4])])
def test_base_classes_are_the_first_half_rounded_up(n, base, new):
    assert list(class_range(n, "base")) == base and list(class_range(n, "new")) == new
    assert list(class_range(n, "all")) == list(range(n))


def test_a_part_of_the_classes_is_labelled_from_zero():
    items = [Item(name, label) for name, label in (("a", 4), ("b", 0), ("c", 3), ("d", 2), ("e", 3), ("f", 1))]
    assert restrict(items, 5, "base") == [Item("b", 0), Item("d", 2), Item("f", 1)]
    assert restrict(items, 5, "new") == [Item("a", 1), Item("c", 0), Item("e", 0)]
    assert restrict(items, 5, "all") == items and restrict(items[:1], 5, "base") == []


def files_below(root, names=("a/1.jpg", "a/2.jpg", "b/1.jpg")):
    """A dataset of three images, as many bytes long as there are letters in their names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    items = [Item(f"{root}/{name}", label) for label, name in enumerate(names)]
    return Dataset("x", "{}", ["cat", "dog", "owl"], items, [])


def test_a_fingerprint_tells_files_apart(tmp_path):
    dataset = files_below(tmp_path / "here")
    items = dataset.train
    found = [dataset.fingerprint(items)]
    assert files_below(tmp_path / "else" / "where").train != items
    moved = files_below(tmp_path / "else" / "where")
    assert moved.fingerprint(moved.train) == found[0] and len(found[0]) == 16 and int(found[0], 16)
    found.append(replace(dataset, classes=["cat", "dog", "emu"]).fingerprint(items))
    found.append(replace(dataset, classes=["cat", "dog owl"]).fingerprint(items))
    found.append(dataset.fingerprint([items[0]._replace(label=2), *items[1:]]))
    found.append(dataset.fingerprint(items[:2]))
    found.append(dataset.fingerprint(items[1:]))
    found.append(dataset.fingerprint([items[1], items[0], items[2]]))
    found.append(dataset.fingerprint([]))
    renamed = files_below(tmp_path / "renamed", ("a/1.jpg", "a/3.jpg", "b/1.jpg"))
    found.append(renamed.fingerprint(renamed.train))
    (tmp_path / "here/a/2.jpg").write_text("longer than it was")
    found.append(dataset.fingerprint(items))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("place", [0, 4095, 50_000, 99_999])
def test_a_fingerprint_tells_other_bytes_of_the_same_size_apart(tmp_path, place):
    dataset = files_below(tmp_path)
    (tmp_path / "a/1.jpg").write_bytes(bytes(100_000))
    before = dataset.fingerprint(dataset.train)
    changed = bytearray(100_000)
    changed[place] = 1
    (tmp_path / "a/1.jpg").write_bytes(changed)
    assert dataset.fingerprint(dataset.train) != before


def test_a_fingerprint_tells_pixels_apart():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    dataset = Dataset("x", "{}", ["cat", "dog"], [Item(image, 0) for image in images], [])
    found = [dataset.fingerprint(dataset.train)]
    assert dataset.fingerprint([Item(image.copy(), 0) for image in images]) == found[0]
    found.append(dataset.fingerprint([Item(image.reshape(6, 4, 3), 0) for image in images]))
    found.append(dataset.fingerprint([Item(image, 1) for image in images]))
    found.append(dataset.fingerprint(dataset.train[::-1]))
    images[1, 2, 3, 0] ^= 1
    found.append(dataset.fingerprint(dataset.train))
    assert len(set(found)) == len(found)


def test_a_fingerprint_needs_every_file(tmp_path):
    dataset = files_below(tmp_path)
    (tmp_path / "a/2.jpg").unlink()
    with pytest.raises(DataError, match="a/2.jpg: no such image; the dataset is incomplete, unpack it again"):
        dataset.fingerprint(dataset.train)
    for name, message in (("a/1.jpg/x", "can't be read .Not a directory"), ("\ud800", "not a readable image")):
        with pytest.raises(DataError, match=message):
            dataset.fingerprint([Item(f"{tmp_path}/{name}", 0)])
