"""How a task's images are drawn, at the boundaries, against plain computations and numbers worked out by hand."""
import numpy as np
import pytest
import torch

from mp.settings import MetaSettings
from mp.tasks import Task, divide, draw_batches, in_parts, mini_batches


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("images, support, expected", [  # of one class: how many are for support and for query
    (16, 5, (5, 11)), (6, 5, (5, 1)), (5, 5, (4, 1)), (4, 5, (3, 1)), (2, 5, (1, 1)), (1, 5, (1, 0)), (3, 1, (1, 2)),
    (2, 1, (1, 1)), (1, 1, (1, 0))])
def test_a_class_of_as_many_images_as_the_support_set_takes(images, support, expected):
    """Beside a large class, which is divided as ever."""
    labels = np.array([1] * images + [0] * 20)
    found = divide(labels, support, generator())
    assert tuple(int((labels[part] == 1).sum()) for part in found) == expected
    assert [int((labels[part] == 0).sum()) for part in found] == [support, 20 - support]
    assert sorted(np.concatenate(found)) == list(range(images + 20))


@pytest.mark.parametrize("size, count, expected", [  # of twelve images: the batches' sizes, and which are one pass
    (4, 6, [[0, 1, 2], [3, 4, 5]]), (12, 3, [[0], [1], [2]]), (6, 4, [[0, 1], [2, 3]]),
    (1, 24, [range(12), range(12, 24)])])
def test_batches_that_use_exactly_all_images(size, count, expected):
    indices = np.arange(100, 112)
    batches = mini_batches(indices, size, count, generator())
    assert [len(batch) for batch in batches] == [size] * count
    for one_pass in expected:
        assert sorted(np.concatenate([batches[i] for i in one_pass])) == list(range(100, 112))
    first, second = ([batches[i].tolist() for i in expected[number]] for number in (0, 1))
    assert first != second


@pytest.mark.parametrize("size, lengths", [(5, [5, 5, 5]), (11, [11, 11]), (13, [12, 12]), (100, [12])])
def test_batches_that_leave_images_over_or_ask_for_more(size, lengths):
    indices = np.arange(12)
    batches = mini_batches(indices, size, len(lengths), generator())
    assert [len(set(batch)) for batch in batches] == lengths
    if size == 5:
        assert not set(batches[0]) & set(batches[1])  # two images are left, too few for a third


def plain_draws(labels, settings, epoch, number):
    """The order of all draws, from one generator: every class, then the support set's batches, then the query's."""
    rng = generator([settings.seed, epoch, number])
    support, query = [], []
    for label in sorted(set(labels)):
        order = rng.permutation([i for i, one in enumerate(labels) if one == label])
        support += list(order[: settings.support])
        query += list(order[settings.support :])
    left, steps = [], []
    for _ in range(settings.inner_steps):
        if len(left) < settings.batch:
            left = list(rng.permutation(support))
        steps.append(left[: settings.batch])
        left = left[settings.batch :]
    return steps, query, rng


LABELS = [0, 1, 2] * 8  # 24 images: with 3 for support, 9 and 15


def draw(at_once=1000, **more):
    settings = MetaSettings("coop", inner_lr=0.1, support=3, batch=3, **more)
    task = Task("t", labels=torch.tensor(LABELS), at_once=at_once)
    return settings, *draw_batches(task, settings, 4, 2)


@pytest.mark.parametrize("asked, size", [(-1, 3), (1, 1), (7, 7), (15, 15), (16, 15), (1000, 15)])
def test_the_query_batch_has_so_many_images(asked, size):
    settings, inner, query = draw(query_batch=asked)
    steps, everything, rng = plain_draws(LABELS, settings, 4, 2)
    assert [[(part.tolist(), weight) for part, weight in batch] for batch in inner] == [[(step, 1.0)] for step in steps]
    (part, weight), = query
    assert part.tolist() == list(rng.permutation(everything)[:size]) and weight == 1


def test_a_query_batch_of_0_is_the_whole_query_set_in_batches():
    settings, inner, query = draw(query_batch=0)
    steps, everything, _ = plain_draws(LABELS, settings, 4, 2)
    assert [batch[0][0].tolist() for batch in inner] == steps
    assert [part.tolist() for part, _ in query] == [everything[i : i + 3] for i in range(0, 15, 3)]
    assert [weight for _, weight in query] == [0.2] * 5


@pytest.mark.parametrize("query_batch", [-1, 0])
def test_what_has_no_room_together_is_drawn_alike_and_comes_in_parts(query_batch):
    _, inner, query = draw(query_batch=query_batch)
    _, inner_parts, query_parts = draw(at_once=2, query_batch=query_batch)
    for whole, parts in zip([*inner, query], [*inner_parts, query_parts], strict=True):
        assert [i for part, _ in parts for i in part] == [i for part, _ in whole for i in part]
        assert all(len(part) <= 2 for part, _ in parts) and sum(weight for _, weight in parts) == pytest.approx(1)


def test_other_seeds_epochs_and_tasks_are_other_draws():
    task = Task("t", labels=torch.tensor(LABELS), at_once=1000)
    found = set()
    for seed, epoch, number in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (1, 0, 0)):
        settings = MetaSettings("coop", inner_lr=0.1, support=3, batch=3, seed=seed)
        inner, query = draw_batches(task, settings, epoch, number)
        found.add(str([batch[0][0].tolist() for batch in (*inner, query)]))
    assert len(found) == 4


@pytest.mark.parametrize("at_once, expected", [
    (4, [([5, 6, 7, 8], 0.5), ([9, 10, 11, 12], 0.5)]), (8, [([5, 6, 7, 8, 9, 10, 11, 12], 1.0)]),
    (9, [([5, 6, 7, 8, 9, 10, 11, 12], 1.0)]), (7, [([5, 6, 7, 8, 9, 10, 11], 0.875), ([12], 0.125)]),
    (1, [([i], 0.125) for i in range(5, 13)])])
def test_parts_of_a_batch_of_eight(at_once, expected):
    assert [(part.tolist(), weight) for part, weight in in_parts(np.arange(5, 13), at_once)] == expected
