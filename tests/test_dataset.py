"""Few-shot sampling and the base/new division, against lists made with the original benchmarks' code."""
import pytest

from data.dataset import Item, class_range, few_shot, restrict


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


@pytest.mark.parametrize("n", [2, 5, 10, 37, 101])
def test_base_and_new_divide_the_classes(n):
    base, new = class_range(n, "base"), class_range(n, "new")
    assert [*base, *new] == list(class_range(n, "all"))
    assert 0 <= len(base) - len(new) <= 1
