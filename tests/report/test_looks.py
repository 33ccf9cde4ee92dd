"""Table 2 as text, Markdown and CSV: numbers against numpy, the paper's own table against the paper's text."""
import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from mp.report import columns, looks, page
from mp.report.averages import MEASURES
from mp.settings import PARTS
from tests.report.tables import COLUMNS, KEYS, MINI, PAPER, make_table

LOOKS = {"text": looks.text, "markdown": looks.markdown, "html": page.html, "csv": lambda table, absolute=False: looks.csv(table)}
ROWS = ["base", "new", "HM", "all"]


@pytest.fixture(scope="module")
def random():
    """Three seeds of random numbers [key, dataset, part, seed] for the miniature, and their table."""
    numbers = np.random.default_rng(0).uniform(20, 90, (len(KEYS), 11, 3, 3))
    numbers[0] = numbers[0, :, :, :1]  # the handcrafted zero-shot prompts have no seed

    def value(key, dataset, part, seed):
        return float(numbers[KEYS.index(key), list(MINI).index(dataset), PARTS.index(part), (seed or 1) - 1])

    return numbers, make_table(value, seeds=(1, 2, 3))


def read(text):
    """The cells of a text table, by a name and a measure."""
    rows, name = {}, ""
    for line in text.splitlines()[2:]:
        words = re.split(r"\s\s+", line.strip())
        if len(words) == len(KEYS) + 2:
            name = words.pop(0).rstrip("*")
        if len(words) == len(KEYS) + 1:
            rows[name, words[0]] = words[1:]
    return rows


def test_numbers_against_numpy(random):
    numbers, table = random
    rows = read(looks.text(table))
    assert len(rows) == 14 * 4 and [measure for _, measure in rows] == ROWS * 14
    groups = {"Average": range(11), "Average (train)": range(6), "Average (test)": range(6, 11)}
    groups |= {name: [i] for i, name in enumerate(MINI)}
    for (name, measure), cells in rows.items():
        means = numbers[:, list(groups[name])].mean(1)  # [key, part, seed]
        base, new, every = means[:, 0], means[:, 1], means[:, 2]
        group = dict(zip(KEYS, {"base": base, "new": new, "HM": 2 / (1 / base + 1 / new), "all": every}[measure]))
        for cell, key in zip(cells, KEYS):
            baseline = "zeroshot/hand" if key.startswith("zeroshot/mp") else key.replace("/mp", "/hand")
            values = group[key] - group[baseline] if baseline != key else group[key]
            sign = "+" if baseline != key else ""
            deviation = f"±{values.std(ddof=1):.1f}" if key != "zeroshot/hand" else ""
            mean = round(values.mean(), 1) + 0.0  # no minus before a zero
            assert cell == f"{mean:{sign}.1f}{deviation}", (name, measure, key)
    absolute = looks.text(replace(table, seeds=[2]), absolute=True)
    assert f"{numbers[1, :, 0, 1].mean():.1f}" in absolute.splitlines()[3] and "±" not in absolute


def test_csv_against_numpy(random):
    """Per cent, means over the seeds, also of the harmonic means; datasets alone."""
    numbers, table = random
    rows = list(csv.DictReader(io.StringIO(looks.csv(table))))
    assert [(row["dataset"], row["metric"]) for row in rows] == [(name, m) for name in MINI for m in ("Base", "New", "HM", "All")]
    for number, name in enumerate(MINI):
        base, new, every = numbers[:, number, 0], numbers[:, number, 1], numbers[:, number, 2]  # [key, seed]
        for row, values in zip(rows[4 * number :], (base, new, 2 / (1 / base + 1 / new), every)):
            assert [float(row[key]) for key in KEYS] == pytest.approx(values.mean(1), abs=0.0051)


@pytest.fixture(scope="module")
def papers():
    """Results that equal the paper's numbers, beside these."""
    published = columns.paper_accuracies()
    return make_table(lambda key, dataset, part, _: published[key][dataset][part], roles=PAPER, suite="paper", paper=True)


def test_the_papers_table_comes_back(papers):
    theirs = list(csv.DictReader(columns.PAPER.read_text().splitlines()))
    ours = [row for row in csv.DictReader(io.StringIO(looks.csv(papers))) if row["metric"] != "HM"]
    assert [{name: row[name] for name in theirs[0]} for row in ours] == theirs
    (gain,) = COLUMNS["finetune/coop/mp"].numbers(papers.ours, "Average", "new", gain=True)
    assert f"{gain:.2f}" == "-18.71"  # as the paper prints it
    text = looks.text(papers)
    assert "-18.7 (-18.7)" in text and "!)" not in text
    absolute = read(looks.text(papers, absolute=True))["Average", "HM"]
    assert absolute == [f"{h:.1f} ({h:.1f})" for h in (71.71, 73.22, 73.32, 75.76, 80.91, 71.08, 75.29, 75.31, 79.47, 78.76)]
    assert read(text)["Average", "HM"][1:] == ["+1.5 (+1.5)", "+1.6 (+1.6)", "+4.0 (+4.0)", "80.9 (80.9)", "-9.8 (-9.8)",
                                               "75.3 (75.3)", "+0.0 (+0.0)", "79.5 (79.5)", "-0.7 (-0.7)"]


def test_what_differs_from_the_paper_is_marked(papers):
    published = columns.paper_accuracies()
    changed = make_table(lambda key, dataset, part, _: published[key][dataset][part]
                         + 2.4 * ((key, dataset, part) == ("finetune/coop/mp", "DTD", "new")), roles=PAPER, paper=True)
    marked = {place: cells for place, cells in read(looks.text(changed)).items() if any("!" in cell for cell in cells)}
    assert list(marked) == [("DTD", "new"), ("DTD", "HM")]  # the averages move by less than a point
    assert sum("!" in cell for cells in marked.values() for cell in cells) == 2


def test_without_the_papers_numbers_no_brackets(papers):
    assert "(" not in "".join(cell for cells in read(looks.text(replace(papers, paper=False))).values() for cell in cells)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_cell_of_fewer_seeds_than_asked_for_is_a_missing_one(random, look):
    """In every look the same as without any of its seeds, and so are the averages over it."""
    _, table = random
    own = [("finetune/coop/mp", "pets", seed) for seed in (1, 2, 3)]
    results = dict(table.results)
    del results[own[1]]
    partial = look(replace(table, results=results))
    del results[own[0]], results[own[2]]
    assert partial == look(replace(table, results=results)) != look(table)


def test_what_is_missing_is_a_dash():
    table = make_table(lambda *_: 50.0)
    results = dict(table.results)
    del results["finetune/coop/hand", "pets", 1]
    rows = read(looks.text(replace(table, results=results)))
    dashes = {place: [key for key, cell in zip(KEYS, cells) if cell == "-"] for place, cells in rows.items()}
    own = ["finetune/coop/hand", "finetune/coop/mp"]  # a gain needs its baseline
    expected = ("pets", "Average", "Average (train)" if MINI["pets"] == "train" else "Average (test)")
    assert dashes == {place: own if place[0] in expected else [] for place in rows}
    empty = read(looks.text(replace(table, results={})))
    assert {cell for cells in empty.values() for cell in cells} == {"-"} and len(empty) == 14 * 4


def test_a_gain_without_its_baseline_is_a_dash_beside_the_papers():
    published = columns.paper_accuracies()
    table = make_table(lambda key, dataset, part, _: published[key][dataset][part] + 2, roles=PAPER, paper=True,
                       columns=[COLUMNS["finetune/coop/mp"]])
    ours, theirs = published["finetune/coop/mp"]["DTD"]["new"], published["finetune/coop/hand"]["DTD"]["new"]
    cells = [looks.cell_text(table, COLUMNS["finetune/coop/mp"], "DTD", "new", absolute) for absolute in (False, True)]
    assert cells == [f"- ({ours - theirs:+.1f})", f"{ours + 2:.1f} ({ours:.1f}!)"]


def test_a_dataset_of_one_part_has_no_harmonic_mean():
    table = make_table(lambda *_: 50.0, parts=("base", "all"))
    rows = read(looks.text(table))
    for name in ("Average", "pets"):
        assert set(rows[name, "HM"]) == set(rows[name, "new"]) == {"-"} and "-" not in rows[name, "base"]


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("absolute", [False, True])
def test_no_zero_has_a_minus_whatever_is_rounded_to_it(look, absolute):
    """Values near 50, and in one dataset near 0, whose gains are of all sizes below and above what is shown."""
    draw = np.random.default_rng(0)

    def gain():
        return float(draw.choice([-1, 1]) * 10.0 ** draw.uniform(-12, -1))

    def value(key, dataset, part, seed):
        if dataset == "pets":
            return -0.0 if part == "base" else abs(gain())
        return 50 + gain()

    shown = look(make_table(value, seeds=(1, 2, 3)), absolute)
    assert not re.search(r"(?<!\w)[-−]0(\.0+)?(?![\d.])", shown) and re.search(r"[+ ,>]0\.0", shown)


def test_markdown(random):
    lines = looks.markdown(random[1]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 14 * 4 and {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(KEYS) + 3}
    assert table[4].startswith("|  | new |") or table[4].split("|")[2].strip() == "HM"


def test_notes_say_what_the_numbers_are():
    table = make_table(lambda *_: 50.0, seeds=(1, 2), tasks=["a", "b"], classes="new")
    first, harmonic, tasks, made_by = looks.make_notes(table, absolute=False)
    assert "points gained over H; fine-tuned on new classes; seeds 1 2" in first and tasks == "meta-prompts of the tasks a, b"
    assert harmonic == "HM: the harmonic mean of base and new; an average's is that of the average base and the average new"
    assert made_by == "commit c0ffee, torch 2, cpu fp32, weights abababababab"
    assert "gained" not in looks.make_notes(table, absolute=True)[0]


def test_two_devices_in_one_table_are_both_named():
    table = make_table(lambda *_: 50.0)
    other = table.results["finetune/coop/hand", "pets", 1].content
    other["provenance"] |= {"device": "cuda", "precision": "fp16\n\x1b"}
    assert looks.text(table).splitlines()[-2:] == ["commit c0ffee, torch 2, cpu fp32, weights abababababab",
                                                   r"commit c0ffee, torch 2, cuda fp16\n\x1b, weights abababababab"]


def test_other_methods_stand_beside_the_papers():
    wide = columns.make_columns([*columns.SHOWN, "maple"])
    own = [column.key for column in wide if column.method == "maple"]
    assert own == ["zeroshot/mp-maple", "finetune/maple/hand", "finetune/maple/mp"]
    narrow = make_table(lambda *_: 50.0)
    table = make_table(lambda key, *_: 61.5 if key in own else 50.0, columns=wide)
    assert "MaPLe MP" in looks.text(table) and "+11.5" in looks.text(table) and "MaPLe" not in looks.text(narrow)
    before, now = (list(csv.DictReader(io.StringIO(looks.csv(one)))) for one in (narrow, table))
    for old, new in zip(before, now, strict=True):
        assert [new.pop(key) for key in own] == ["61.50"] * 3 and new == old


def test_every_measure_has_a_row():
    assert list(MEASURES.values()) == ROWS and set(PARTS) <= set(MEASURES)
