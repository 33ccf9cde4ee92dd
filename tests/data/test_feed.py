"""Views from threads: the same whatever their number, and errors that say which image."""
import random
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from data import feed
from data.dataset import Item
from data.errors import DataError
from data.feed import VIEWS_AT_ONCE, Feed
from data.images import augment, crop_centre, open_image


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(2 * VIEWS_AT_ONCE + 3):
        w, h = rng.integers(20, 60, 2)
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return [Item(str(folder / f"{i}.jpg"), i % 7) for i in range(2 * VIEWS_AT_ONCE + 3)]


def epochs_of(items, workers, seed=1, name="x"):
    batches = Feed(16, workers=workers).augmented(items[:20], 6, seed, name)
    return [[tuple(b) for b in batches(epoch)] for epoch in (0, 1, 0)]


@pytest.fixture
def here(monkeypatch):
    """Of every image that is opened, cropped or augmented, whether the test's own thread does it."""
    seen = []

    def watch(function):
        def watched(*args):
            seen.append(threading.current_thread() is threading.main_thread())
            return function(*args)
        monkeypatch.setattr(feed, function.__name__, watched)

    for function in (open_image, crop_centre, augment):
        watch(function)
    return seen


def test_the_number_of_workers_changes_nothing(items, here):
    for compute, counts in ((lambda n: list(Feed(16, workers=n).plain(items)), 2 * len(items)),
                            (lambda n: epochs_of(items, n), 20 + 3 * 18)):  # opened once, then three epochs of 18
        for workers in (0, 2):
            here.clear()
            compute(workers)
            assert here == [not workers] * counts
    alone, two = (list(Feed(16, workers=n).plain(items)) for n in (0, 2))
    assert [len(v) for v in alone] == [VIEWS_AT_ONCE, VIEWS_AT_ONCE, 3]
    assert all(torch.equal(a, b) for a, b in zip(alone, two, strict=True))
    alone, two = (epochs_of(items, n) for n in (0, 2))
    for a, b in zip(alone, two, strict=True):
        assert len(a) == 3  # of 6 images; the other 2 are dropped
        assert all(torch.equal(*t) for x, y in zip(a, b, strict=True) for t in zip(x, y, strict=True))


def test_views_depend_on_seed_name_epoch_and_image(items):
    first, second, again = epochs_of(items, 0)
    assert all(torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y))
    others = [second, epochs_of(items, 0, seed=2)[0], epochs_of(items, 0, name="y")[0]]
    assert not any(torch.equal(first[0][0], other[0][0]) for other in others)
    seen = Counter(int(label) for _, labels in first for label in labels)
    assert all(n <= 3 for n in seen.values())  # every item at most once: 20 items have each label 2 or 3 times


def test_training_views_are_augmented_images(items):
    images, labels = next(Feed(16, workers=0).augmented(items[:3], 8, 5, "x")(4))
    order = [0, 1, 2]
    random.Random("5/x/4").shuffle(order)
    for view, label, i in zip(images, labels, order, strict=True):
        expected = augment(Image.open(items[i].source), 16, random.Random(f"5/x/4/{i}"))
        assert label == items[i].label and torch.equal(view, torch.from_numpy(np.array(expected)))


@pytest.mark.parametrize("room", [0, 20_000, 50_000])
def test_how_many_images_are_kept_changes_nothing(items, room, monkeypatch):
    everything = epochs_of(items, 2)
    opened = []
    monkeypatch.setattr(feed, "KEPT", room)
    monkeypatch.setattr(feed, "open_image", lambda source: opened.append(source) or open_image(source))
    some = epochs_of(items, 2)
    for a, b in zip(everything, some, strict=True):
        assert all(torch.equal(*t) for x, y in zip(a, b, strict=True) for t in zip(x, y, strict=True))
    sizes = np.cumsum([4 * np.prod(Image.open(item.source).size) for item in items[:20]])
    kept = [item.source for item in items[:20]][: np.searchsorted(sizes, room, "right")]
    assert 0 < len(kept) < 20 or room == 0
    again = Counter(opened[20:])  # in three epochs of 18 of the 20 images
    assert sum(again.values()) >= 3 * (18 - len(kept)) and not again.keys() & set(kept)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(items, workers, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(open(items[0].source, "rb").read()[:300])
    broken = [*items[:100], Item(str(tmp_path / "cut.jpg"), 0), Item(str(tmp_path / "gone.jpg"), 0)]
    with pytest.raises(DataError, match="cut.jpg: not a readable image.*run.py data --check"):
        list(Feed(16, workers=workers).plain(broken))
    with pytest.raises(DataError, match="cut.jpg: not a readable image"):
        Feed(16, workers=workers).augmented(broken, 4, 1, "x")
    found = list(Feed(16, workers=workers).troubles(broken))
    assert found[:100] == [""] * 100 and len(found) == 102 and "cut.jpg" in found[100] and "gone.jpg" in found[101]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_can_be_opened_comes_in_its_place(items, workers, tmp_path):
    (tmp_path / "text.jpg").write_text("none")
    bad = Item(str(tmp_path / "text.jpg"), 0)
    mixed = [bad, *items[:70], bad, bad, *items[70:]]
    views, troubles = zip(*Feed(16, workers=workers).readable(mixed))
    assert [len(some) for some in views] == [len(some) for some in troubles] == [VIEWS_AT_ONCE, VIEWS_AT_ONCE, 6]
    views, troubles = torch.cat(views), sum(troubles, [])
    assert [i for i, trouble in enumerate(troubles) if trouble] == [0, 71, 72] and "text.jpg: not a readable image" in troubles[71]
    assert not views[[0, 71, 72]].any()
    good = [i for i in range(len(mixed)) if i not in (0, 71, 72)]
    assert torch.equal(views[good], torch.cat(list(Feed(16, workers=0).plain(items))))


def test_threads_work_ahead_but_not_far_and_end_with_their_consumer(items, monkeypatch):
    opened, before = [], threading.active_count()
    monkeypatch.setattr(feed, "AHEAD", 10)
    monkeypatch.setattr(feed, "open_image", lambda source: opened.append(source) or open_image(source))
    views = Feed(16, workers=2).plain(items)
    next(views)
    assert threading.active_count() == before + 2
    assert VIEWS_AT_ONCE <= len(opened) <= VIEWS_AT_ONCE + 10
    views.close()
    done = len(opened)
    assert threading.active_count() == before and done <= VIEWS_AT_ONCE + 10
    with pytest.raises(DataError):
        list(Feed(16, workers=2).plain([Item("gone.jpg", 0), *items]))
    assert threading.active_count() == before and len(opened) <= done + 10
