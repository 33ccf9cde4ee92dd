"""run.py finetune as a whole: what is in its files and what it prints, beside fine-tuning written out."""
import shutil

import pytest
import torch

from tests.walks import outputs, plain
from tests.walks.outputs import PARTS
from tests.walks.printed import check_printed
from tests.walks.small import SIZES, TUNED, run


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Meta-prompts of two methods and two seeds."""
    place = tmp_path_factory.mktemp("learnt")
    for method in ("coop", "promptsrc"):
        run(place, f"meta --method {method} --seeds 1 2 --datasets cars")
    return place


@pytest.fixture
def place(learnt, tmp_path):
    return shutil.copytree(learnt, tmp_path / "w")


@pytest.mark.parametrize("method", ["coop", "promptsrc"])
def test_together_is_each_alone(method, tmp_path):
    """Pets and cars have as many classes; general more."""
    names, seeds = ("pets", "cars", "general"), (1, 2)
    run(tmp_path, f"finetune --method {method} --datasets {' '.join(names)} --seeds 1 2 --out together")
    for name in names:
        for seed in seeds:
            out = tmp_path / f"{name}{seed}"
            run(tmp_path, f"finetune --method {method} --datasets {name} --seeds {seed} --out {out.name}")
            one, other = outputs.result(out, tuned=True), outputs.result(tmp_path / "together", dataset=name, seed=seed)
            assert one.accuracies == other.accuracies and one.identity == other.identity
            for key, value in one.prompt["params"].items():
                torch.testing.assert_close(other.prompt["params"][key], value, rtol=0, atol=0)
    assert len(outputs.results(tmp_path / "together", tuned=True)) == 6


@pytest.mark.parametrize("method, part, dataset", [("coop", "base", "flowers"), ("coop", "new", "flowers"), ("coop", "all", "cars"),
                                                   ("cocoop", "new", "general"), ("maple", "all", "flowers"), ("promptsrc", "base", "general"),
                                                   ("promptsrc", "new", "pets"), ("promptsrc", "all", "flowers")])
def test_a_prompt_is_that_of_its_classes_and_its_accuracies_are_the_prompts(method, part, dataset, tmp_path):
    shown = run(tmp_path, f"finetune --method {method} --classes {part} --datasets {dataset} --seeds 3")
    found = outputs.result(tmp_path, tuned=True)
    params = found.prompt["params"]
    expected, last = plain.tuned(method, plain.start(method, 3), dataset, part, seed=3)
    assert plain.close(params, expected)
    accuracies = plain.accuracies(plain.learner_with(method, params), dataset)
    assert {name: found.accuracies[name] for name in PARTS} == pytest.approx(accuracies)
    base, new = accuracies["base"], accuracies["new"]
    assert found.accuracies["harmonic_mean"] == pytest.approx(2 * base * new / (base + new))
    assert outputs.rows(shown.out, 3)[dataset][1] == [
        f"{value:.1f}" for value in (base, new, found.accuracies["harmonic_mean"], accuracies["all"])]
    assert found.content["few_shot_images"] == len(plain.shot_items(dataset, part, TUNED["shots"], 3))
    if method == "promptsrc" and part != "all":  # or the test can't tell the average over epochs from the last
        assert plain.accuracies(plain.learner_with(method, last), dataset) != accuracies


def test_the_printed_table_is_that_of_the_results(tmp_path):
    shown = run(tmp_path, "finetune --method coop --seeds 1 2")
    seeds = [{name: outputs.result(tmp_path, dataset=name, seed=seed).accuracies for name in SIZES} for seed in (1, 2)]
    check_printed(shown.out, [seeds], list(SIZES))


@pytest.mark.parametrize("method", ["coop", "promptsrc"])
def test_where_it_starts(method, place):
    """At the meta-prompt of each seed; at a file's, whose method needn't be named."""
    run(place, f"finetune --method {method} --init meta --datasets cars --seeds 1 2")
    run(place, f"finetune --method {method} --datasets cars --out other")
    ends = []
    for seed in (1, 2):
        meta = outputs.meta_prompt(place, method=method, seed=seed)
        ends.append(outputs.result(place / "runs", tuned=True, dataset="cars", seed=seed).prompt["params"])
        assert plain.close(ends[-1], plain.tuned(method, meta.params, "cars", seed=seed)[0])
    ends.append(outputs.result(place / "other", tuned=True).prompt["params"])
    file = outputs.meta_prompt(place, method=method, seed=2).path
    shown = run(place, f"finetune --init {file} --datasets cars --seeds 1 --out file")
    ends.append(outputs.result(place / "file", tuned=True).prompt["params"])
    assert f"{method} from " in shown.out
    assert plain.close(ends[-1], plain.tuned(method, outputs.meta_prompt(place, method=method, seed=2).params, "cars", seed=1)[0])
    assert not any(plain.close(a, b) for i, a in enumerate(ends) for b in ends[:i])
    run(place, f"finetune --init {file} --datasets cars pets --seeds 1 --out file")  # both files lie in one folder
    run(place, f"finetune --init {outputs.meta_prompt(place, method=method, seed=1).path} --datasets cars --seeds 1 --out file")
    both = outputs.results(place / "file", tuned=True, dataset="cars")
    assert len(both) == 2 and plain.close(ends[-1], both[0].prompt["params"]) != plain.close(ends[-1], both[1].prompt["params"])


def test_a_regulator_acts_on(tmp_path):
    """Its prompt and the same prompt without it are fine-tuned otherwise."""
    run(tmp_path, "meta --method coop --regulator --datasets cars")
    file = outputs.meta_prompt(tmp_path, regulator=True)
    content = {key: value for key, value in file.content.items() if key != "regulator"}
    torch.save(content, tmp_path / "alone.pt")
    for path in (file.path, tmp_path / "alone.pt"):
        run(tmp_path, f"finetune --init {path} --datasets cars --out {path.stem}")
    expected = plain.tuned("coop", file.params, "cars")[0]
    assert plain.close(outputs.result(tmp_path / "alone", tuned=True).prompt["params"], expected)
    acted = outputs.result(tmp_path / "prompt", tuned=True).prompt
    assert not plain.close(acted["params"], expected) and acted["regulator"].keys() == file.content["regulator"].keys()
