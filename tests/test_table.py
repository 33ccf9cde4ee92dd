"""Table 2 from result files: numbers against numpy, the paper's own table against the paper's text, and every format."""
import csv
import io
import json
import re
import shlex
from argparse import Namespace
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import run as program
from data import paper
from data.miniature import suite as mini
from data.suite import Suite
from mp.commands import options, table
from mp.store import promptfile, results
from mp.table import columns, page, render
from mp.commands.session import meta_prompt
from mp.settings import FINETUNE, FinetuneSettings

KEYS = ("zeroshot/hand zeroshot/mp-coop zeroshot/mp-cocoop zeroshot/mp-promptsrc finetune/coop/hand finetune/coop/mp "
        "finetune/cocoop/hand finetune/cocoop/mp finetune/promptsrc/hand finetune/promptsrc/mp").split()
PAPER = Suite("paper", paper.TRAINING, paper.NAMES, None, None, 200)
MINI = Suite("mini", mini.TRAINING, list(mini.TABLE), None, None, 50)


def write(out, suite, seeds, value):
    """A result file for every cell; `value(key, dataset, part, seed)` in per cent."""
    for column in columns.COLUMNS:
        for dataset in suite.datasets:
            for seed in seeds:
                made_from = {"weights_sha256": "ab" * 32}
                if column.tuned:
                    made_from["settings"] = asdict(FinetuneSettings(column.method, **FINETUNE[column.method], seed=seed))
                results.cell(column.file(out, dataset, seed, "base"), made_from,
                             {"commit": "c0ffee", "torch": "2", "device": "cpu", "precision": "fp32"},
                             lambda: {"accuracies": {p: value(column.key, dataset, p, seed) for p in results.PARTS}})


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Three seeds of random numbers for the miniature: the folder, and the numbers [key, dataset, part, seed]."""
    out = tmp_path_factory.mktemp("runs")
    numbers = np.random.default_rng(0).uniform(20, 90, (10, 11, 3, 3))
    numbers[0] = numbers[0, :, :, :1]  # the handcrafted zero-shot prompts have no seed

    def value(key, dataset, part, seed):
        return numbers[KEYS.index(key), MINI.datasets.index(dataset), results.PARTS.index(part), seed - 1]

    write(out / "mini", MINI, [1, 2, 3], value)
    for method in columns.METHODS:
        folder = out / "mini" / "meta" / f"{method}-seed1"
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text("".join(json.dumps(dict(query_loss=3 / i, grad_norm=9 / i, clipped_norm=min(5, 9 / i)))
                                                  + "\n" for i in range(1, 51)))
        (folder / "settings.json").write_text(json.dumps({"settings": {"method": method, "inner_lr": 0.025 / 6}}))
    return out, numbers


def printed(out, *args, capsys):
    assert program.main(["table", "--out", str(out), *args]) == 0
    return capsys.readouterr()


def test_columns_are_the_papers():
    assert [c.key for c in columns.COLUMNS] == KEYS
    with open(columns.PAPER, newline="") as f:
        assert next(csv.reader(f)) == ["dataset", "metric", *KEYS]
    assert [c.baseline().key for c in columns.COLUMNS if c.baseline()] == [
        *["zeroshot/hand"] * 3, "finetune/coop/hand", "finetune/cocoop/hand", "finetune/promptsrc/hand"]


def test_numbers_against_numpy(filled, capsys):
    out, numbers = filled
    lines = printed(out, "--seeds", "1", "2", "3", capsys=capsys).out.splitlines()
    rows, name = {}, ""
    for line in lines[2:]:
        if words := re.split(r"\s\s+", line.strip()):
            if len(words) == 12:
                name = words.pop(0).rstrip("*")
            if len(words) == 11:
                rows[name, words[0]] = words[1:]
    assert len(rows) == 14 * 3
    groups = {"Average": range(11), "Average (train)": range(6), "Average (test)": range(6, 11)}
    groups |= {name: [i] for i, name in enumerate(MINI.datasets)}
    for (name, part), cells in rows.items():
        group = numbers[:, list(groups[name]), results.PARTS.index(part)].mean(1)  # [10, seeds]
        for i, (cell, key) in enumerate(zip(cells, KEYS)):
            base = {"mp": 0, "ha": None}[key.split("/")[-1][:2]] if i < 4 else (i - 1 if key.endswith("mp") else None)
            values = group[i] - group[base] if base is not None else group[i]
            sign = "+" if base is not None else ""
            deviation = f"±{values.std(ddof=1):.1f}" if i else ""
            assert cell == f"{values.mean():{sign}.1f}{deviation}", (name, part, key)
    absolute = printed(out, "--seeds", "2", "--absolute", capsys=capsys).out
    assert f"{numbers[1, :, 0, 1].mean():.1f}" in absolute.splitlines()[3] and "±" not in absolute


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Results that equal the paper's numbers."""
    out, published = tmp_path_factory.mktemp("paper"), columns.paper_values()
    write(out / "paper", PAPER, [1], lambda key, dataset, part, _: published[key, dataset, part])
    return out


def test_the_papers_table_comes_back(papers, tmp_path, capsys):
    data = ["--data", str(tmp_path)]
    theirs = {tuple(row[:2]): row[2:] for row in csv.reader(columns.PAPER.read_text().splitlines())}
    ours = {tuple(row[:2]): row[2:] for row in csv.reader(printed(papers, *data, "--format", "csv", capsys=capsys).out.splitlines())}
    assert ours == theirs
    table = columns.read(PAPER, papers / "paper", [1], "base")
    new = next(row for row in table.rows if (row.name, row.part) == ("Average", "new"))
    assert f"{new.cells[KEYS.index('finetune/coop/mp')].gains[0]:.2f}" == "-18.71"  # as the paper prints it
    text = printed(papers, *data, "--paper", capsys=capsys).out
    assert "-18.7 (-18.7)" in text and "!)" not in text.replace("! where", "")
    path = columns.COLUMNS[5].file(papers / "paper", "DTD", 1, "base")
    result = json.loads(path.read_text())
    before = path.read_text()
    result["accuracies"]["new"] += 1.2
    path.write_text(json.dumps(result))
    text = printed(papers, *data, "--paper", capsys=capsys).out
    assert text.count("!)") == 1 and "DTD" in text  # the averages move by a tenth of a point
    path.write_text(before)


def test_paper_needs_the_papers_datasets(filled, capsys):
    assert program.main(["table", "--paper", "--out", str(filled[0])]) == 2
    assert "--paper: the paper has no numbers for the miniature" in capsys.readouterr().err


def test_missing_cells_and_the_commands_that_fill_them(tmp_path, capsys):
    tmp_path = tmp_path / "two words"
    out = printed(tmp_path, "--seeds", "1", "2", "--classes", "all", "--datasets", "pets", "cars", capsys=capsys)
    assert "-" in out.out and "±" not in out.out
    commands = [line.strip() for line in out.err.splitlines() if line.startswith("  python run.py")]
    assert len(commands) == 10
    parsed = [options.parse(shlex.split(line)[2:], "") for line in commands]
    assert [(a.command, getattr(a, "method", None), getattr(a, "init", None)) for a in parsed[:6]] == [
        ("zeroshot", "promptsrc", None), ("meta", "coop", None), ("meta", "cocoop", None), ("meta", "promptsrc", None),
        ("finetune", "coop", "handcrafted"), ("finetune", "coop", "meta")]
    assert all(a.out == tmp_path and a.seeds == [1, 2] and a.datasets == ["pets", "cars"] for a in parsed)
    assert all(a.classes == "all" for a in parsed[4:])


def test_a_damaged_result_is_a_missing_one(filled, tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = columns.COLUMNS[1].file(tmp_path / "mini", "pets", 1, "base")
    path.write_text(path.read_text()[:40])
    out = printed(tmp_path, capsys=capsys)
    assert "pets-seed1.json: damaged; left out" in out.err and "python run.py meta --method coop --seeds 1" in out.err
    assert sum(" - " in line or line.endswith(" -") for line in out.out.splitlines()) == 9  # pets and two averages, 3 parts


def test_results_of_other_settings_or_prompts_are_left_out(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = columns.COLUMNS[4].file(tmp_path / "mini", "pets", 1, "base")
    result = json.loads(path.read_text())
    result["made_from"]["settings"]["epochs"] = 2
    path.write_text(json.dumps(result))
    promptfile.write(tmp_path / "mini/meta/coop-seed1/prompt.pt", "coop", {"ctx": torch.zeros(4, 8)}, {})
    out = printed(tmp_path, capsys=capsys)
    assert "pets-seed1.json: left out, made with epochs 2 instead of 200" in out.err
    assert out.err.count("left out, made from another meta-prompt than the one that is there now") == 22
    commands = [line.strip() for line in out.err.splitlines() if line.startswith("  python run.py")]
    assert commands[1] == f"python run.py finetune --method coop --init handcrafted --seeds 1 --out {tmp_path} --datasets pets --force"
    assert commands[0].startswith("python run.py zeroshot --prompt meta --method coop --seeds 1 ") and len(commands) == 3


def test_a_damaged_meta_prompt_is_told_and_its_results_are_shown(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    whole = printed(tmp_path, capsys=capsys)
    prompt = meta_prompt(tmp_path / "mini", "coop", 1)
    prompt.parent.mkdir(parents=True)
    prompt.write_text("x")
    again = printed(tmp_path, capsys=capsys)
    assert again.out == whole.out and again.err.count(f"{prompt}: damaged, or not a file of this project") == 1


def change(path, **made_from):
    result = json.loads(path.read_text())
    result["made_from"] |= made_from
    path.write_text(json.dumps(result))


@pytest.mark.parametrize("changed, reason", [
    ({"weights_sha256": "cd" * 32}, "weights_sha256 cdcdcdcdcdcd instead of abababababab"),
    ({"format": 0}, f"format 0 instead of {results.FORMAT}"), ({"test_images": 3}, "test_images 3 instead of None")])
def test_results_of_other_weights_formats_or_images_are_left_out(tmp_path, capsys, changed, reason):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(columns.COLUMNS[1].file(tmp_path / "mini", "pets", 1, "base"), **changed)
    assert f"pets-seed1.json: left out, made with {reason};" in printed(tmp_path, capsys=capsys).err


def test_depth_counts_on_the_papers_suite_alone(papers, tmp_path, capsys):
    column = columns.COLUMNS[8]
    for out, suite, count in ((tmp_path, MINI, 0), (papers, PAPER, 1)):
        if suite is MINI:
            write(out / "mini", MINI, [1], lambda *_: 50.0)
        path = column.file(out / suite.name, suite.datasets[4], 1, "base")
        before = path.read_text()
        change(path, settings=json.loads(before)["made_from"]["settings"] | {"depth": 3})
        said = printed(out, *(["--data", str(tmp_path)] if suite is PAPER else []), capsys=capsys).err
        assert said.count("left out, made with depth 3 instead of 9") == count
        path.write_text(before)


def test_run_refuses_results_of_others_and_recomputes_the_damaged(tmp_path, capsys):
    args = options.parse(["table", "--run", "--out", str(tmp_path)], "")
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    assert program.main(["table", "--run", "--out", str(tmp_path)]) == 2
    assert re.search(r"run.py: .*json: made with weights_sha256 abababababab instead of \w{12}, and 109 more like it; give --force",
                     capsys.readouterr().err)
    path = columns.COLUMNS[5].file(tmp_path / "mini", "pets", 1, "base")
    path.write_text("{")
    prompts = [meta_prompt(tmp_path / "mini", method, 1) for method in columns.METHODS]
    refused, todo = table.find_work(args, MINI, "ab" * 32)
    assert not refused and list(todo) == [*prompts, path]
    args.force = True
    refused, todo = table.find_work(args, MINI, "cd" * 32)
    assert not refused and len(todo) == 3 + 110 and sum(time > 0 for time in todo.values()) >= 109


def test_force_reaches_every_cell(monkeypatch):
    forced = []
    monkeypatch.setattr(table, "evaluate", lambda session, test, prompt, force: forced.append(force))
    monkeypatch.setattr(table, "learnt_prompt", lambda *_: None)
    monkeypatch.setattr(table, "start_of", lambda *_: None)
    monkeypatch.setattr(table, "tune_one", lambda session, test, settings, init, args, tell: (
        tell(50, "loss", 1), forced.append(args.force)))
    session, shares = Namespace(test_set=str, fitted=lambda s: s, meta_prompt=lambda *_: None), []
    for column in columns.COLUMNS[:6]:
        table.compute_cell(session, options.parse(["table", "--run", "--force"], ""), column, "pets", 1, lambda *a: shares.append(a))
    assert forced == [True] * 6 and shares == [(50 / 201, ", epoch 50, loss")] * 2


def test_costs_grow_with_classes_and_images():
    def cost(number, classes, images):
        return table.cell_cost(columns.COLUMNS[number], Namespace(classes=[""] * classes, test=[None] * images))

    assert [cost(i, 12, 600) for i in (0, 2, 4)] == [0.5, 2, 5.3]
    assert cost(0, 24, 6000) == 5 and cost(2, 24, 600) == 4 and cost(4, 24, 600) == 20.3


def test_one_process_of_several_prints(filled, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert printed(filled[0], capsys=capsys) == ("", "")


def test_a_gain_without_its_baseline_is_a_dash():
    cell = columns.Cell([70.0], [], 75.0, 2.0)
    assert render.cell_text(cell, False, True) == "- (+2.0)" and render.cell_text(cell, True, True) == "70.0 (75.0!)"
    assert render.cell_text(columns.Cell([70.0], None, 75.0), False, True) == "70.0 (75.0!)"


def test_markdown_latex_and_files(filled, tmp_path, capsys):
    out, _ = filled
    lines = printed(out, "--format", "markdown", capsys=capsys).out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 14 * 3 and {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {13}
    lines = printed(out, "--format", "latex", "--seeds", "1", "2", capsys=capsys).out.splitlines()
    rows = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 1 + 14 * 3 and all(len(re.findall(r"(?<!\\)&", line)) == 11 for line in rows)
    assert r"$\pm$" in rows[1] and "±" not in "".join(rows)
    said = printed(out, "--format", "csv", "--to", str(tmp_path / "t.csv"), capsys=capsys)
    assert said.out == "" and "t.csv written" in said.err
    assert len(list(csv.reader(io.StringIO((tmp_path / "t.csv").read_text())))) == 34
    assert program.main(["table", "--out", str(out), "--to", str(tmp_path / "t.csv" / "x")]) == 2


class Checker(HTMLParser):
    """Every tag is closed in order; collects the text and every address."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.texts, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action") or k.startswith("on")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page(filled, capsys):
    out, numbers = filled
    text = printed(out, "--format", "html", capsys=capsys).out
    found = Checker(text)
    assert found.addresses == [] and "script" not in found.tags and "http" not in text.replace("http-equiv", "")
    assert found.tags.count("tr") == 2 + 14 * 3 and found.tags.count("rect") == 6 * 11
    assert found.tags.count("polyline") == 3 * 3 and "inner_lr 0.004167" in "".join(found.texts)
    assert "fine-tuning: method promptsrc, epochs 20, lr 0.0025" in "".join(found.texts)
    gain = (numbers[1] - numbers[0])[:, 2, 0]
    assert all(f"{g:+.1f}" in found.texts for g in gain)
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "viewport" in text


def test_what_comes_from_files_is_escaped(tmp_path):
    nasty = '<img src=x onerror="alert(1)">&"\'^~'
    suite = MINI._replace(datasets=[nasty])
    write(tmp_path, suite, [1], lambda *_: 40.0)
    found_table = columns.read(suite, tmp_path, [1], "base")._replace(missing=["<script>"], made_by=["</style><script>"])
    found = Checker(page.html(found_table, options.parse(["table"], "")))
    assert "img" not in found.tags and "script" not in found.tags and nasty in "".join(found.texts)
    for line in render.markdown(found_table, False, False).splitlines()[2:5]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 13
    assert r"\&" in render.latex(found_table, False, False)
    assert r"\^{}\~{}" in render.latex(found_table, False, False)
