"""run.py table --run as a whole: every number beside what its cell's prompt gives, computed with nothing of the table."""
import csv
import io
import re
from statistics import fmean

import pytest

from tests.walks import outputs, plain
from tests.walks.printed import MEASURES, groups_of, mean_of, shows, table_rows
from tests.walks.small import load, run

NAMES, SEEDS, METHODS = ["flowers", "cars"], (1, 2), ("coop", "cocoop", "promptsrc")
TASK = "flowers"
TABLE = f"table --tasks {TASK} --datasets {' '.join(NAMES)} --seeds 1 2"
BASELINES = {f"zeroshot/mp-{method}": "zeroshot/hand" for method in METHODS} | {
    f"finetune/{method}/mp": f"finetune/{method}/hand" for method in METHODS}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A folder, and what `table --run` printed there."""
    place = tmp_path_factory.mktemp("table")
    return place, run(place, f"{TABLE} --run").out


def expected(key, name, seed, classes="base"):
    """Return a cell's accuracies."""
    kind, *words = key.split("/")
    if key == "zeroshot/hand":
        return plain.accuracies(load(name).template, name)
    method = words[0].removeprefix("mp-")
    params = plain.start(method, seed) if words[-1] == "hand" else plain.learnt(method, seed, (TASK,))
    if kind == "finetune":
        params, _ = plain.tuned(method, params, name, classes, seed=seed)
    return plain.accuracies(plain.learner_with(method, params), name)


@pytest.fixture(scope="module")
def wanted():
    """Column -> seed -> dataset -> accuracies, in the table's order; words have one seed, None."""
    keys = ["zeroshot/hand", *(f"zeroshot/mp-{method}" for method in METHODS)]
    keys += [f"finetune/{method}/{start}" for method in METHODS for start in ("hand", "mp")]
    cells = {}
    for key in keys:
        seeds = SEEDS if key != "zeroshot/hand" else (None,)
        cells[key] = {seed: {name: expected(key, name, seed) for name in NAMES} for seed in seeds}
    return cells


def values_of(wanted, key, names, part, gain):
    """Return a cell's values, one a seed: means over the datasets, or how much more they are than the baseline's."""
    values = []
    for seed, accuracies in wanted[key].items():
        value = mean_of(accuracies, names, part)
        if gain and key in BASELINES:
            base = wanted[BASELINES[key]]
            value -= mean_of(base.get(seed, base.get(None)), names, part)
        values.append(value)
    return values


def check(cells, wanted, gain):
    """Hold all cells, by row and measure, to the values: one for each column in order."""
    groups = groups_of(NAMES)
    assert list(cells) == [(row, part) for row in groups for part in MEASURES]
    for (row, part), texts in cells.items():
        assert len(texts) == len(wanted)
        for text, key in zip(texts, wanted):
            values = values_of(wanted, key, groups[row], part, gain)
            assert shows(text, values, signed=gain and key in BASELINES), (row, part, key)


def test_every_cell_as_text(computed, wanted):
    place, first = computed
    check(table_rows(first), wanted, gain=True)
    assert run(place, TABLE).out == first  # without --run
    check(table_rows(run(place, f"{TABLE} --absolute").out), wanted, gain=False)
    assert "seeds 1 2" in first and "fine-tuned on base classes" in first


def test_every_cell_in_the_other_forms(computed, wanted):
    place, first = computed
    lines = list(csv.DictReader(io.StringIO(run(place, f"{TABLE} --format csv").out)))
    titles = [(name, "HM" if part == "HM" else part.capitalize()) for name in NAMES for part in MEASURES]
    assert [(line.pop("dataset"), line.pop("metric")) for line in lines] == titles
    for line, (name, part) in zip(lines, [(name, part) for name in NAMES for part in MEASURES]):
        assert list(line) == list(wanted)
        for key, cell in line.items():
            assert abs(float(cell) - fmean(values_of(wanted, key, [name], part, False))) < 0.00501, (name, part, key)
    texts = [cell for cells in table_rows(first).values() for cell in cells]
    markdown = run(place, f"{TABLE} --format markdown").out
    lines = [line for line in markdown.splitlines() if line.startswith("|") and "±" in line]
    assert [cell for line in lines for cell in line.strip("| ").split(" | ")[2:]] == texts
    said = run(place, f"{TABLE} --format html --to page.html")
    page = (place / "page.html").read_text(encoding="utf-8")
    assert said.out == "" and "page.html" in said.err
    cells = re.findall(r">([+-]?\d+\.\d(?:±\d+\.\d)?)<", page)
    assert [cell for cell in cells if cell in texts][: len(texts)] == texts


def test_a_cell_of_fewer_seeds_is_a_dash(computed):
    place, first = computed
    for (row, part), cells in table_rows(run(place, f"{TABLE} 3").out).items():
        assert cells == [table_rows(first)[row, part][0], *["-"] * 9]


def test_other_classes_and_methods_have_columns_of_their_own_numbers(computed):
    place, _ = computed
    line, = [line for line in csv.DictReader(io.StringIO(run(
        place, f"table --run --tasks {TASK} --datasets cars --seeds 2 --classes new --methods maple --format csv").out))
            if line["metric"] == "All"]
    assert len(line) == 2 + 10 + 3
    for key in ("zeroshot/hand", "zeroshot/mp-maple", "finetune/coop/hand", "finetune/coop/mp", "finetune/promptsrc/mp",
                "finetune/maple/mp"):
        assert abs(float(line[key]) - expected(key, "cars", 2, "new")["all"]) < 0.00501, key
    assert outputs.results(place, tuned=True, classes="base") and outputs.results(place, tuned=True, classes="new")
