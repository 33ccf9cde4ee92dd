"""Table 2: columns are the paper's; text, Markdown and CSV against numpy, and the paper's own table against its text."""
import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from mp.experiment.arms import Arm
from mp.report import formats, page, table2
from mp.settings import PARTS
from tests.report.tables import COLUMNS, KEYS, MINI, PAPER, job, make_table, without

FORMATS = [formats.text, formats.markdown, page.html, lambda table, absolute=False: formats.csv(table)]
ROWS = ["base", "new", "HM", "all"]


# Columns

def test_columns_are_the_papers_in_its_order():
    with open(table2.PAPER, newline="") as f:
        papers = next(csv.reader(f))[2:]
    assert KEYS == papers
    baselines = {key: column.baseline.key for key, column in COLUMNS.items() if column.baseline}
    assert baselines == {
        "zeroshot/mp-coop": "zeroshot/hand", "zeroshot/mp-cocoop": "zeroshot/hand", "zeroshot/mp-promptsrc": "zeroshot/hand",
        "finetune/coop/mp": "finetune/coop/hand", "finetune/cocoop/mp": "finetune/cocoop/hand",
        "finetune/promptsrc/mp": "finetune/promptsrc/hand"}


def test_a_column_is_an_arm_with_a_title():
    """None: as it is, or not learnt; (): as usual."""
    columns = {column.key: (column.group, column.title, column.arm) for column in table2.make_columns(["coop"])}
    assert columns == {
        "zeroshot/hand": ("zero-shot", "H", Arm(words="")),
        "zeroshot/mp-coop": ("zero-shot", "CoOp MP", Arm("coop", learnt=())),
        "finetune/coop/hand": ("fine-tuned", "CoOp H", Arm("coop", tuned=())),
        "finetune/coop/mp": ("fine-tuned", "CoOp MP", Arm("coop", learnt=(), tuned=()))}
    other = {column.key: column.arm for column in table2.make_columns(["maple"], "new")}
    assert other["finetune/maple/mp"] == Arm("maple", learnt=(), tuned=(("classes", "new"),))


# Numbers

@pytest.fixture(scope="module")
def random():
    """Three seeds of random numbers [key, dataset, part, seed] for the miniature, and their table."""
    numbers = np.random.default_rng(0).uniform(20, 90, (len(KEYS), 11, 3, 3))
    numbers[0] = numbers[0, :, :, :1]  # the handcrafted zero-shot prompts have no seed

    def value(key, dataset, part, seed):
        return float(numbers[KEYS.index(key), MINI.datasets.index(dataset), PARTS.index(part), (seed or 1) - 1])

    return numbers, make_table(value, seeds=(1, 2, 3))


@pytest.fixture(scope="module")
def even():
    return make_table(lambda *_: 50.0)


def read(text):
    """Return the cells of a text table, by a name and a measure."""
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
    rows = read(formats.text(table))
    assert len(rows) == 14 * 4 and [measure for _, measure in rows] == ROWS * 14
    groups = {"Average": range(11), "Average (train)": range(6), "Average (test)": range(6, 11)}
    groups |= {name: [i] for i, name in enumerate(MINI.datasets)}
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
    absolute = formats.text(replace(table, seeds=[2]), absolute=True)
    assert f"{numbers[1, :, 0, 1].mean():.1f}" in absolute.splitlines()[3] and "±" not in absolute


def test_csv_against_numpy(random):
    """Per cent, means over the seeds, also of the harmonic means; datasets alone."""
    numbers, table = random
    rows = list(csv.DictReader(io.StringIO(formats.csv(table))))
    assert [(row["dataset"], row["metric"]) for row in rows] == [(name, m) for name in MINI.datasets for m in ("Base", "New", "HM", "All")]
    for number in range(len(MINI.datasets)):
        base, new, every = numbers[:, number, 0], numbers[:, number, 1], numbers[:, number, 2]  # [key, seed]
        for row, values in zip(rows[4 * number :], (base, new, 2 / (1 / base + 1 / new), every)):
            assert [float(row[key]) for key in KEYS] == pytest.approx(values.mean(1), abs=0.0051)


def test_markdown_has_the_texts_cells(random):
    lines = [line for line in formats.markdown(random[1]).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 14 * 4 and {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(KEYS) + 3}
    assert [line.strip("| ").split(" | ")[-len(KEYS):] for line in lines[2:]] == list(read(formats.text(random[1])).values())


# The paper's numbers

PUBLISHED = table2.paper_accuracies()


def papers_table(more=lambda place: 0.0, **changes):
    """Return the table of the paper's numbers, and perhaps `more`, beside the paper's numbers."""
    return make_table(lambda key, dataset, part, _: PUBLISHED[key][None][dataset][part] + more((key, dataset, part)),
                      suite=PAPER, paper=True, **changes)


def test_the_papers_table_comes_back():
    table = papers_table()
    theirs = list(csv.DictReader(table2.PAPER.read_text().splitlines()))
    ours = [row for row in csv.DictReader(io.StringIO(formats.csv(table))) if row["metric"] != "HM"]
    assert [{name: row[name] for name in theirs[0]} for row in ours] == theirs
    gain, = COLUMNS["finetune/coop/mp"].numbers(table.ours, "Average", "new", gain=True)
    assert f"{gain:.2f}" == "-18.71"  # as the paper prints it
    text = formats.text(table)
    assert "-18.7 (-18.7)" in text and "!)" not in text
    absolute = read(formats.text(table, absolute=True))["Average", "HM"]
    assert absolute == [f"{h:.1f} ({h:.1f})" for h in (71.71, 73.22, 73.32, 75.76, 80.91, 71.08, 75.29, 75.31, 79.47, 78.76)]
    assert read(text)["Average", "HM"][1:] == ["+1.5 (+1.5)", "+1.6 (+1.6)", "+4.0 (+4.0)", "80.9 (80.9)", "-9.8 (-9.8)",
                                               "75.3 (75.3)", "+0.0 (+0.0)", "79.5 (79.5)", "-0.7 (-0.7)"]
    assert "(" not in "".join(sum(read(formats.text(replace(table, paper=False))).values(), []))


def test_what_differs_from_the_paper_is_marked():
    table = papers_table(lambda place: 2.4 * (place == ("finetune/coop/mp", "DTD", "new")))
    marked = {place: cells for place, cells in read(formats.text(table)).items() if any("!" in cell for cell in cells)}
    assert list(marked) == [("DTD", "new"), ("DTD", "HM")]  # the averages move by less than a point
    assert sum("!" in cell for cells in marked.values() for cell in cells) == 2


def test_a_gain_without_its_baseline_is_a_dash_beside_the_papers():
    column = COLUMNS["finetune/coop/mp"]
    table = papers_table(lambda place: 2.0, columns=[column])
    ours, theirs = (PUBLISHED[f"finetune/coop/{start}"][None]["DTD"]["new"] for start in ("mp", "hand"))
    assert formats.cell(table, column, "DTD", "new", absolute=False) == f"- ({ours - theirs:+.1f})"
    assert formats.cell(table, column, "DTD", "new", absolute=True) == f"{ours + 2:.1f} ({ours:.1f}!)"


# What is missing

def test_a_cell_of_fewer_seeds_than_asked_for_is_a_missing_one(random):
    """In every format the same, but for how many results are missing, as without any of its seeds; so are averages."""
    _, table = random
    first, *others = (job("finetune/coop/mp", "pets", seed) for seed in (1, 2, 3))
    partial = without(table, first)
    for form in FORMATS:
        assert form(partial).replace("1 of", "3 of") == form(without(partial, *others)) != form(table)


def test_what_is_missing_is_a_dash(even):
    rows = read(formats.text(without(even, job("finetune/coop/hand", "pets", 1))))
    for (name, measure), cells in rows.items():
        dashes = [key for key, cell in zip(KEYS, cells) if cell == "-"]
        missing = name in ("pets", "Average", "Average (train)" if MINI.roles["pets"] == "train" else "Average (test)")
        assert dashes == (["finetune/coop/hand", "finetune/coop/mp"] if missing else [])  # a gain needs its baseline
    empty = read(formats.text(without(even, *even.results.by_job)))
    assert set(sum(empty.values(), [])) == {"-"} and len(empty) == 14 * 4


def test_a_dataset_of_one_part_has_no_harmonic_mean():
    rows = read(formats.text(make_table(lambda *_: 50.0, parts=("base", "all"))))
    for name in ("Average", "pets"):
        assert set(rows[name, "HM"]) == set(rows[name, "new"]) == {"-"} and "-" not in rows[name, "base"]


@pytest.mark.parametrize("absolute", [False, True])
def test_no_zero_has_a_minus_whatever_is_rounded_to_it(absolute):
    """Values near 50, and in one dataset near 0, whose gains are of all sizes below and above what is shown."""
    draw = np.random.default_rng(0)

    def gain():
        return float(draw.choice([-1, 1]) * 10.0 ** draw.uniform(-12, -1))

    def value(key, dataset, part, seed):
        if dataset == "pets":
            return -0.0 if part == "base" else abs(gain())
        return 50 + gain()

    table = make_table(value, seeds=(1, 2, 3), suite=MINI._replace(datasets=["pets", "cars", "textures"]))
    for form in FORMATS:
        assert not re.search(r"(?<!\w)[-−]0(\.0+)?(?![\d.])", form(table, absolute))
        assert re.search(r"[+ ,>]0\.0", form(table, absolute))


# What stands around the numbers

def test_notes_say_what_the_numbers_are():
    table = make_table(lambda *_: 50.0, seeds=(1, 2), suite=MINI._replace(other_tasks=["a", "b"]), classes="new")
    first, harmonic, tasks, made_by = formats.notes(table, absolute=False)
    assert "points gained over H; fine-tuned on new classes; seeds 1 2" in first and tasks == "meta-prompts of the tasks a, b"
    assert harmonic == "HM: the harmonic mean of base and new; an average's is that of the average base and the average new"
    assert made_by == "commit c0ffee, torch 2, cpu fp32, weights abababababab"
    assert "gained" not in formats.notes(table, absolute=True)[0]


def test_two_devices_in_one_table_are_both_named():
    table = make_table(lambda *_: 50.0)
    other = table.results.by_job[job("finetune/coop/hand", "pets", 1)].content
    other["provenance"] |= {"device": "cuda", "precision": "fp16\n\x1b"}
    assert formats.text(table).splitlines()[-2:] == ["commit c0ffee, torch 2, cpu fp32, weights abababababab",
                                                     r"commit c0ffee, torch 2, cuda fp16\n\x1b, weights abababababab"]


def test_other_methods_stand_beside_the_papers(even):
    columns = table2.make_columns([*table2.SHOWN, "maple"])
    keys = [column.key for column in columns if column.arm.method == "maple"]
    assert keys == ["zeroshot/mp-maple", "finetune/maple/hand", "finetune/maple/mp"]
    wide = make_table(lambda key, *_: 61.5 if key in keys else 50.0, columns=columns)
    assert "MaPLe MP" in formats.text(wide) and "+11.5" in formats.text(wide) and "MaPLe" not in formats.text(even)
    before, now = (list(csv.DictReader(io.StringIO(formats.csv(table)))) for table in (even, wide))
    for old, new in zip(before, now, strict=True):
        assert [new.pop(key) for key in keys] == ["61.50"] * 3 and new == old
