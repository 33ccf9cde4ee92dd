"""run.py meta, zeroshot and finetune as wholes: the prompts, the numbers in the files and those that are printed, beside
the same trainings written out."""
from statistics import fmean

import pytest
import torch

from tests.walks import outputs, plain
from tests.walks.outputs import PARTS
from tests.walks.printed import check_printed, rows
from tests.walks.small import META_EPOCHS, SIZES, TRAINING, TUNED, load, run

DEEP = dict(depth=2, length=3)
DEEP_FLAGS = "--method promptsrc --depth 2 --length 3 --tasks pets"


def each(prompt, names):
    """Return a prompt's accuracies on each dataset."""
    return {name: plain.accuracies(prompt, name) for name in names}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A folder with meta-prompts of two methods and two seeds."""
    place = tmp_path_factory.mktemp("learnt")
    run(place, "meta --method coop --seeds 1 2 --datasets cars")
    run(place, f"meta {DEEP_FLAGS} --seeds 1 2 --datasets cars")
    return place


# meta

def test_two_seeds_are_each_alone_and_what_is_printed_is_of_the_files(learnt, tmp_path):
    names = ["flowers", "cars"]
    shown = run(learnt, f"meta --method coop --seeds 1 2 --datasets {' '.join(names)}")
    both = [outputs.meta_prompt(learnt, method="coop", seed=seed) for seed in (1, 2)]
    assert not plain.close(both[0].params, both[1].params)
    for seed, learnt_prompt in zip((1, 2), both):
        assert plain.close(learnt_prompt.params, plain.learnt("coop", seed))
        folder = learnt_prompt.path.parent
        assert {path.name for path in folder.iterdir()} == {"prompt.pt", "log.jsonl", "settings.json", ".lock"}
        assert [line["epoch"] for line in learnt_prompt.log] == list(range(1, META_EPOCHS + 1))
        for line in learnt_prompt.log:
            assert line["tasks"].keys() == set(TRAINING)
            assert line["query_loss"] == pytest.approx(fmean(line["tasks"].values())) and line["grad_norm"] > 0
    run(tmp_path, "meta --method coop --seeds 2 --datasets cars")
    torch.testing.assert_close(outputs.meta_prompt(tmp_path).params, both[1].params, rtol=0, atol=0)
    seeds = [each(plain.learner_with("coop", prompt.params), names) for prompt in both]
    check_printed(shown.out, [seeds], names)
    for name in names:
        hand = plain.accuracies(load(name).template, name)
        expected = [accuracies[part] for accuracies in (hand, *(seed[name] for seed in seeds)) for part in PARTS]
        in_files = [result.accuracies[part] for folder in ("handcrafted", "meta-coop")
                    for result in outputs.results(learnt / "runs/mini/zeroshot" / folder, name) for part in PARTS]
        assert in_files == pytest.approx(expected)


def test_other_settings_are_another_prompt(tmp_path):
    """Which `meta` evaluates, and which `--prompt meta` doesn't mean."""
    command = "meta --method coop --datasets cars"
    usual = run(tmp_path, command)
    first = outputs.everything(tmp_path)
    other = run(tmp_path, f"{command} --inner-steps 1 --epochs 1")
    assert first.items() <= outputs.everything(tmp_path).items()
    changed = outputs.meta_prompt(tmp_path, inner_steps=1)
    assert len(outputs.meta_prompts(tmp_path)) == 2 and len(changed.log) == 1
    assert plain.close(changed.params, plain.learnt("coop", inner_steps=1, epochs=1))
    check_printed(other.out, [[each(plain.learner_with("coop", changed.params), ["cars"])]], ["cars"])
    again = run(tmp_path, "zeroshot --method coop --prompt meta --datasets cars")
    assert rows(again.out, 3) == rows(usual.out, 3) != rows(other.out, 3)


# zeroshot

def test_several_prompts_at_once_are_each_alone(learnt):
    """Words, the dataset's own words, meta-prompts of two seeds, and files, of which each brings its method and shape."""
    coop = [outputs.meta_prompt(learnt, method="coop", seed=seed) for seed in (1, 2)]
    deep = outputs.meta_prompt(learnt, method="promptsrc", seed=1)
    names = ["pets", "general", "cars"]
    seeds = [each(plain.learner_with("coop", prompt.params), names) for prompt in coop]
    columns = {"'an image of a {}.'": [each("an image of a {}.", names)], "meta": seeds, "handcrafted": [],
               str(coop[1].path): [seeds[1]], "'{}'": [each("{}", names)]}
    command, of_meta = "zeroshot --datasets pets cars general", "--method coop --seeds 1 2"  # which play no part in others
    together = run(learnt, f"{command} {of_meta} --prompt {' '.join(columns)}")
    check_printed(together.out, [column for column in columns.values() if column], names)
    for number, (prompt, column) in enumerate(columns.items()):
        alone = run(learnt, f"{command} --prompt {prompt} {of_meta if prompt == 'meta' else f'--out alone{number}'}")
        check_printed(alone.out, [column] if column else [], names)
    expected = each(plain.learner_with("promptsrc", deep.params, **DEEP), ["cars"])
    for prompt in (deep.path, f"meta {DEEP_FLAGS}"):
        check_printed(run(learnt, f"zeroshot --datasets cars --prompt {prompt}").out, [[expected]], ["cars"])


def test_every_dataset_has_its_own_words(tmp_path):
    check_printed(run(tmp_path, "zeroshot").out, [], list(SIZES))
    for name in SIZES:
        result = outputs.result(tmp_path, dataset=name)
        assert result.identity["prompt"] == load(name).template and result.identity["prompt"].count("{}") == 1
        expected = plain.accuracies(load(name).template, name)
        assert {part: result.accuracies[part] for part in PARTS} == pytest.approx(expected)
    assert len({load(name).template for name in SIZES}) == len(SIZES)


# finetune

@pytest.mark.parametrize("method, part, datasets, seeds", [
    ("coop", "base", "pets cars general", "1 2"),  # pets and cars have as many classes; general more
    ("coop", "new", "flowers", "3"), ("cocoop", "new", "general", "3"), ("maple", "all", "flowers", "3"),
    ("promptsrc", "base", "general cars", "3"), ("promptsrc", "new", "pets", "3"), ("promptsrc", "all", "flowers", "3")])
def test_each_dataset_s_prompt_is_of_its_own_classes_and_its_accuracies_are_the_prompts(method, part, datasets, seeds,
                                                                                       tmp_path):
    names, numbers = datasets.split(), [int(seed) for seed in seeds.split()]
    shown = run(tmp_path, f"finetune --method {method} --classes {part} --datasets {datasets} --seeds {seeds}")
    columns = []
    for seed in numbers:
        columns.append({})
        for name in names:
            result = outputs.result(tmp_path, tuned=True, dataset=name, seed=seed)
            params = result.prompt["params"]
            expected, last = plain.tuned(method, plain.start(method, seed), name, part, seed=seed)
            assert plain.close(params, expected)
            accuracies = plain.accuracies(plain.learner_with(method, params), name)
            assert {part: result.accuracies[part] for part in PARTS} == pytest.approx(accuracies)
            base, new = accuracies["base"], accuracies["new"]
            assert result.accuracies["harmonic_mean"] == pytest.approx(2 * base * new / (base + new))
            assert result.content["few_shot_images"] == len(plain.shot_items(name, part, TUNED["shots"], seed))
            assert len(result.content["losses"]) == TUNED["epochs"]
            columns[-1][name] = accuracies
            if method == "promptsrc" and part != "all":  # or the test can't tell the average over epochs from the last
                assert plain.accuracies(plain.learner_with(method, last), name) != accuracies
    check_printed(shown.out, [columns], [name for name in SIZES if name in names])


def test_where_it_starts(learnt):
    """At the meta-prompt of each seed; at a file's, whose method and shape needn't be named."""
    run(learnt, f"finetune {DEEP_FLAGS} --init meta --datasets cars --seeds 1 2 --out runs")
    starts = [outputs.meta_prompt(learnt / "runs", method="promptsrc", seed=seed) for seed in (1, 2)]
    ends = [outputs.result(learnt / "runs", tuned=True, dataset="cars", seed=seed).prompt["params"] for seed in (1, 2)]
    for seed, meta in zip((1, 2), starts):
        expected, _ = plain.tuned("promptsrc", meta.params, "cars", seed=seed, **DEEP)
        assert plain.close(ends[seed - 1], expected)
    shown = run(learnt, f"finetune --init {starts[1].path} --datasets cars pets --seeds 1 --out file")
    assert "promptsrc from " in shown.out
    ends.append(outputs.result(learnt / "file", tuned=True, dataset="cars").prompt["params"])
    assert plain.close(ends[-1], plain.tuned("promptsrc", starts[1].params, "cars", seed=1, **DEEP)[0])
    assert not any(plain.close(a, b) for i, a in enumerate(ends) for b in ends[:i])
    run(learnt, f"finetune --init {starts[0].path} --datasets cars --seeds 1 --out file")  # of another file of that name
    both = [result.prompt["params"] for result in outputs.results(learnt / "file", tuned=True, dataset="cars")]
    assert len(both) == 2 and plain.close(ends[-1], both[0]) != plain.close(ends[-1], both[1])


def test_a_regulator_acts_on(tmp_path):
    """Its prompt and the same prompt without it are fine-tuned otherwise."""
    run(tmp_path, "meta --method coop --regulator --datasets cars --tasks pets")
    file = outputs.meta_prompt(tmp_path, regulator=True)
    content = {key: value for key, value in file.content.items() if key != "regulator"}
    torch.save(content, tmp_path / "alone.pt")
    for path in (file.path, tmp_path / "alone.pt"):
        run(tmp_path, f"finetune --init {path} --datasets cars --out {path.stem}")
    expected, _ = plain.tuned("coop", file.params, "cars")
    assert plain.close(outputs.result(tmp_path / "alone", tuned=True).prompt["params"], expected)
    acted = outputs.result(tmp_path / "prompt", tuned=True).prompt
    assert not plain.close(acted["params"], expected) and acted["regulator"].keys() == file.content["regulator"].keys()
