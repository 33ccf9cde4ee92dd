"""run.py meta and zeroshot as wholes: the prompts, the numbers in the files and those that are printed."""
from statistics import fmean

import pytest
import torch

from tests.walks import outputs, plain
from tests.walks.outputs import PARTS
from tests.walks.printed import check_printed
from tests.walks.small import META_EPOCHS, SIZES, TRAINING, load, run


def each(prompt, names):
    """A prompt's accuracies on each dataset."""
    return {name: plain.accuracies(prompt, name) for name in names}


def learner(method, found, **shape):
    return plain.learner_with(method, found.params, **shape)


@pytest.mark.parametrize("method", ["coop", "cocoop", "promptsrc"])
def test_two_seeds_are_each_alone_and_what_is_printed_is_of_the_files(method, tmp_path):
    names = ["flowers", "cars"]
    shown = run(tmp_path, f"meta --method {method} --seeds 1 2 --datasets {' '.join(names)}")
    both = [outputs.meta_prompt(tmp_path, method=method, seed=seed) for seed in (1, 2)]
    assert not plain.close(both[0].params, both[1].params)
    for seed, found in zip((1, 2), both):
        assert plain.close(found.params, plain.learnt(method, seed))
        assert [line["epoch"] for line in found.log] == list(range(1, META_EPOCHS + 1))
        assert all(line["tasks"].keys() == set(TRAINING) and line["query_loss"] == pytest.approx(fmean(line["tasks"].values()))
                   for line in found.log)
    run(tmp_path, f"meta --method {method} --seeds 2 --datasets cars --out alone")
    torch.testing.assert_close(outputs.meta_prompt(tmp_path / "alone").params, both[1].params, rtol=0, atol=0)
    seeds = [each(learner(method, found), names) for found in both]
    check_printed(shown.out, [seeds], names)
    for name in names:
        kept = [found.accuracies[part] for found in outputs.results(tmp_path / "runs", dataset=name) for part in PARTS]
        expected = [accuracies[part] for accuracies in (plain.accuracies(load(name).template, name), *(one[name] for one in seeds))
                    for part in PARTS]
        assert sorted(kept) == pytest.approx(sorted(expected))


def test_other_settings_are_another_prompt(tmp_path):
    """Which `meta` evaluates, and which `--prompt meta` doesn't mean."""
    command = "meta --method coop --datasets cars"
    usual = run(tmp_path, command)
    first = outputs.everything(tmp_path)
    other = run(tmp_path, f"{command} --inner-steps 1 --epochs 1")
    assert first.items() <= outputs.everything(tmp_path).items()
    found = outputs.meta_prompt(tmp_path, inner_steps=1)
    assert len(outputs.meta_prompts(tmp_path)) == 2 and len(found.log) == 1
    assert plain.close(found.params, plain.learnt("coop", inner_steps=1, epochs=1))
    check_printed(other.out, [[each(learner("coop", found), ["cars"])]], ["cars"])
    again = run(tmp_path, "zeroshot --method coop --prompt meta --datasets cars")
    assert outputs.rows(again.out, 3) == outputs.rows(usual.out, 3) != outputs.rows(other.out, 3)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """A folder with two seeds' meta-prompts."""
    place = tmp_path_factory.mktemp("prompts")
    run(place, "meta --method coop --seeds 1 2 --datasets cars")
    run(place, "meta --method promptsrc --depth 2 --length 3 --datasets cars")
    return place


def test_several_prompts_at_once_are_each_alone(prompts):
    """Words, the dataset's own words, meta-prompts of two seeds, and files, of which each brings its method and shape."""
    coop = [outputs.meta_prompt(prompts, method="coop", seed=seed) for seed in (1, 2)]
    deep = outputs.meta_prompt(prompts, method="promptsrc")
    names = ["pets", "general", "cars"]
    seeds = [each(learner("coop", found), names) for found in coop]
    means = {"'an image of a {}.'": [each("an image of a {}.", names)], "meta": seeds, "handcrafted": [],
             str(coop[1].path): [seeds[1]], "'{}'": [each("{}", names)]}
    command, of_meta = "zeroshot --datasets pets cars general", "--method coop --seeds 1 2"  # which play no part in others
    together = run(prompts, f"{command} {of_meta} --prompt {' '.join(means)}")
    check_printed(together.out, [column for column in means.values() if column], names)
    for number, (given, column) in enumerate(means.items()):
        alone = run(prompts, f"{command} --prompt {given} {of_meta if given == 'meta' else f'--out alone{number}'}")
        check_printed(alone.out, [column] if column else [], names)
    shown = run(prompts, f"zeroshot --datasets cars --prompt {deep.path}")
    check_printed(shown.out, [[each(learner("promptsrc", deep, depth=2, length=3), ["cars"])]], ["cars"])


def test_every_dataset_has_its_own_words(tmp_path):
    check_printed(run(tmp_path, "zeroshot").out, [], list(SIZES))
    for name in SIZES:
        found = outputs.result(tmp_path, dataset=name)
        assert found.identity["prompt"] == load(name).template and found.identity["prompt"].count("{}") == 1
        assert {part: found.accuracies[part] for part in PARTS} == pytest.approx(plain.accuracies(load(name).template, name))
    assert len({load(name).template for name in SIZES}) == len(SIZES)
