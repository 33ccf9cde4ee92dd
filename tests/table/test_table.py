"""Table 2 from result files: numbers against numpy, the paper's own table against the paper's text, every format, --run."""
import contextlib
import csv
import io
import json
import re
import shlex
import shutil
from argparse import Namespace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import run as program
from data import paper
from data.miniature import suite as mini
from data.suite import Suite, open_suite
from mp.commands import options, session, table
from mp.commands.zeroshot import HANDCRAFTED
from mp.learners import METHODS
from mp.settings import PARTS, FinetuneSettings, as_dict
from mp.store import promptfile, results
from mp.store.identity import FORMAT, Identity
from mp.table import columns, page, read, render
from mp.table.entries import Entry

KEYS = ("zeroshot/hand zeroshot/mp-coop zeroshot/mp-cocoop zeroshot/mp-promptsrc finetune/coop/hand finetune/coop/mp "
        "finetune/cocoop/hand finetune/cocoop/mp finetune/promptsrc/hand finetune/promptsrc/mp").split()
PAPER = Suite("paper", paper.TRAINING, paper.NAMES, None, None, 200)
MINI = Suite("mini", mini.TRAINING, list(mini.TABLE), None, None, 50)


def write(out, suite, seeds, value):
    """A result file for every cell; `value(key, dataset, part, seed)` in per cent."""
    for column in columns.COLUMNS:
        for dataset in suite.datasets:
            for seed in seeds if column.method else [None]:
                settings = None
                if column.tuned:
                    settings = as_dict(FinetuneSettings(column.method, **METHODS[column.method].finetune, seed=seed))
                identity = Identity(FORMAT, "ab" * 32, "cpu", "fp32", settings, tested_on={dataset: "0123"})
                kind = "fine-tuning result" if column.tuned else "zero-shot result"
                results.cell(column.file(out, dataset, seed, "base"), kind, identity, {"commit": "c0ffee", "torch": "2"},
                             lambda: {"accuracies": {p: value(column.key, dataset, p, seed) for p in PARTS}})


def change(path, place, value):
    """Sets one value, by its keys, in a result or prompt file."""
    content = json.loads(path.read_text()) if path.suffix == ".json" else torch.load(path, weights_only=True)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if path.suffix == ".json":
        path.write_text(json.dumps(content))
    else:
        torch.save(content, path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Three seeds of random numbers for the miniature: the folder, and the numbers [key, dataset, part, seed]."""
    out = tmp_path_factory.mktemp("runs")
    numbers = np.random.default_rng(0).uniform(20, 90, (10, 11, 3, 3))
    numbers[0] = numbers[0, :, :, :1]  # the handcrafted zero-shot prompts have no seed

    def value(key, dataset, part, seed):
        return numbers[KEYS.index(key), MINI.datasets.index(dataset), PARTS.index(part), (seed or 1) - 1]

    write(out / "mini", MINI, [1, 2, 3], value)
    for method in METHODS:
        folder = out / "mini" / "meta" / f"{method}-seed1"
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text("".join(json.dumps(dict(query_loss=3 / i, grad_norm=9 / i, clipped_norm=min(5, 9 / i)))
                                                  + "\n" for i in range(1, 51)))
        (folder / "settings.json").write_text(json.dumps(
            {"identity": {"settings": {"method": method, "inner_lr": 0.025 / 6}}}))
    return out, numbers


def printed(out, *args, capsys):
    assert program.main(["table", "--out", str(out), *args]) == 0
    return capsys.readouterr()


def test_columns_are_the_papers():
    assert [c.key for c in columns.COLUMNS] == KEYS
    with open(columns.PAPER, newline="") as f:
        assert next(csv.reader(f)) == ["dataset", "metric", *KEYS]
    assert [c.baseline.key for c in columns.COLUMNS if c.baseline] == [
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
        group = numbers[:, list(groups[name]), PARTS.index(part)].mean(1)  # [10, seeds]
        for i, (cell, key) in enumerate(zip(cells, KEYS)):
            base = {"mp": 0, "ha": None}[key.split("/")[-1][:2]] if i < 4 else (i - 1 if key.endswith("mp") else None)
            values = group[i] - group[base] if base is not None else group[i]
            sign = "+" if base is not None else ""
            deviation = f"±{values.std(ddof=1):.1f}" if i else ""
            mean = round(values.mean(), 1) + 0.0  # no minus before a zero
            assert cell == f"{mean:{sign}.1f}{deviation}", (name, part, key)
    absolute = printed(out, "--seeds", "2", "--absolute", capsys=capsys).out
    assert f"{numbers[1, :, 0, 1].mean():.1f}" in absolute.splitlines()[3] and "±" not in absolute


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Results that equal the paper's numbers."""
    out, published = tmp_path_factory.mktemp("paper"), columns.paper_accuracies()
    write(out / "paper", PAPER, [1], lambda key, dataset, part, _: published[key][dataset][part])
    return out


def test_the_papers_table_comes_back(papers, tmp_path, capsys):
    data = ["--data", str(tmp_path)]
    theirs = {tuple(row[:2]): row[2:] for row in csv.reader(columns.PAPER.read_text().splitlines())}
    ours = {tuple(row[:2]): row[2:] for row in csv.reader(printed(papers, *data, "--format", "csv", capsys=capsys).out.splitlines())}
    assert ours == theirs
    whole = read.read(PAPER, papers / "paper", [1], "base")
    new = next(row for row in whole.rows if (row.name, row.part) == ("Average", "new"))
    assert f"{new.cells[KEYS.index('finetune/coop/mp')].gain.mean:.2f}" == "-18.71"  # as the paper prints it
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
    assert all(a.out == tmp_path and a.datasets == ["pets", "cars"] for a in parsed)
    assert all(a.seeds == [1, 2] for a in parsed[1:])  # handcrafted words have no seed
    assert all(a.classes == "all" for a in parsed[4:])


def test_a_damaged_result_is_a_missing_one(filled, tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = columns.COLUMNS[1].file(tmp_path / "mini", "pets", 1, "base")
    path.write_text(path.read_text()[:40])
    out = printed(tmp_path, capsys=capsys)
    assert "pets-seed1.json: damaged; left out" in out.err and "python run.py meta --method coop --seeds 1" in out.err
    assert sum(" - " in line or line.endswith(" -") for line in out.out.splitlines()) == 9  # pets and two averages, 3 parts


def write_prompt(path, **identity):
    promptfile.write(path, "coop", {"ctx": torch.zeros(4, 8)}, {"format": FORMAT, **identity}, {})


def test_results_of_other_settings_or_prompts_are_left_out(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(columns.COLUMNS[4].file(tmp_path / "mini", "pets", 1, "base"), ["identity", "settings", "epochs"], 2)
    write_prompt(results.meta_prompt(tmp_path / "mini", "coop", 1))
    out = printed(tmp_path, capsys=capsys)
    assert "pets-seed1.json: left out, made otherwise: epochs 2 (now 200); its command below, with --force, makes" in out.err
    assert out.err.count("left out, made from another meta-prompt than the one that is there now") == 22
    commands = [line.strip() for line in out.err.splitlines() if line.startswith("  python run.py")]
    assert commands[1] == f"python run.py finetune --method coop --init handcrafted --seeds 1 --out {tmp_path} --datasets pets --force"
    assert commands[0].startswith("python run.py zeroshot --prompt meta --method coop --seeds 1 ") and len(commands) == 3


def test_a_damaged_meta_prompt_is_told_and_its_results_are_shown(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    whole = printed(tmp_path, capsys=capsys)
    prompt = results.meta_prompt(tmp_path / "mini", "coop", 1)
    prompt.parent.mkdir(parents=True)
    prompt.write_text("x")
    again = printed(tmp_path, capsys=capsys)
    assert again.out == whole.out and again.err.count(f"{prompt}: damaged, or not a file of this project") == 1


def test_a_meta_prompt_that_is_there_is_not_learnt_again_by_the_commands(tmp_path, capsys):
    write_prompt(results.meta_prompt(tmp_path / "mini", "coop", 1))
    for seeds, command in ((["1"], "zeroshot --prompt meta --method coop --seeds 1 "), (["1", "2"], "meta --method coop --seeds 1 2 ")):
        assert f"python run.py {command}" in printed(tmp_path, "--seeds", *seeds, capsys=capsys).err


@pytest.mark.parametrize("place, value, reason", [
    (["weights"], "cd" * 32, "weights cdcdcdcdcdcdcdcdcdcd (now abababababababababab)"),
    (["weights"], "x\n\x1b", r"weights x\n\x1b (now abababababababababab)"),
    (["tested_on", "pets"], "4567", "tested_on.pets 4567 (now 0123)"), (["tested_on"], [], "tested_on [] (now {'pets': '0123'})")])
def test_results_of_other_weights_or_images_are_left_out(tmp_path, capsys, place, value, reason):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(columns.COLUMNS[1].file(tmp_path / "mini", "pets", 1, "base"), ["identity", *place], value)
    out = printed(tmp_path, capsys=capsys)
    assert f"pets-seed1.json: left out, made otherwise: {reason};" in out.err and out.err.count("left out") == 1


def test_the_weights_given_are_those_that_count(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    out = printed(tmp_path, "--weights", str(mini.WEIGHTS), capsys=capsys)
    assert out.err.count("left out, made otherwise: weights abababababababababab (now") == 11 * 10 and "50.0" not in out.out


@pytest.mark.parametrize("place, value", [(["identity", "format"], FORMAT - 1), (["made_by"], {})])
def test_results_of_earlier_versions_are_refused(tmp_path, capsys, place, value):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(columns.COLUMNS[1].file(tmp_path / "mini", "pets", 1, "base"), place, value)
    assert program.main(["table", "--out", str(tmp_path)]) == 2
    assert "pets-seed1.json: from another version of this project" in capsys.readouterr().err


def test_depth_counts_on_the_papers_suite_alone(papers, tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    for out, suite, count in ((tmp_path, MINI, 0), (papers, PAPER, 1)):
        path = columns.COLUMNS[8].file(out / suite.name, suite.datasets[4], 1, "base")
        before = path.read_text()
        change(path, ["identity", "settings", "depth"], 3)
        said = printed(out, *(["--data", str(tmp_path)] if suite is PAPER else []), capsys=capsys).err
        assert said.count("left out, made otherwise: depth 3 (now 9)") == count
        path.write_text(before)


def test_two_devices_in_one_table_are_both_named(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = columns.COLUMNS[4].file(tmp_path / "mini", "pets", 1, "base")
    change(path, ["identity", "device"], "cuda")
    change(path, ["identity", "precision"], "fp16")
    out = printed(tmp_path, capsys=capsys)
    assert out.out.splitlines()[-2:] == ["commit c0ffee, torch 2, cpu fp32, weights abababababab",
                                         "commit c0ffee, torch 2, cuda fp16, weights abababababab"]
    assert "left out" not in out.err and " - " not in out.out


SMALL = ["table", "--run", "--datasets", "aircraft"]


@contextlib.contextmanager
def small():
    """One epoch of everything on two training datasets."""
    def opened(*args):
        whole = open_suite(*args)
        return whole._replace(meta_epochs=1, training=whole.training[2:4])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "open_suite", opened)
        patch.setattr(table, "open_suite", opened)
        for name, row in METHODS.items():
            short = {"epochs": 1, "batch": 16}
            patch.setitem(METHODS, name, row._replace(finetune=row.finetune | short))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole small table: the folder, and its text."""
    out = tmp_path_factory.mktemp("small")
    with small(), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), write_through=True)) as stdout:
        assert program.main([*SMALL, "--out", str(out)]) == 0
        stdout.seek(0)
        return out, stdout.read()


@pytest.fixture
def place(finished, tmp_path):
    """A copy of it, to go on with."""
    with small():
        yield shutil.copytree(finished[0], tmp_path / "runs")


def tuned(place, number=5):
    return columns.COLUMNS[number].file(place / "mini", "aircraft", 1, "base")


def computed(capsys):
    """The progress lines of cells."""
    return [line.split("  ")[1] for line in capsys.readouterr().err.splitlines() if line.startswith("cell ")]


def test_run_leaves_what_is_finished_and_computes_the_rest(finished, place, capsys, monkeypatch):
    """Whatever device made it. A finished cell isn't opened for its test images; a damaged one is computed again."""
    for file in [tuned(place), tuned(place, 0), results.meta_prompt(place / "mini", "coop", 1)]:
        change(file, ["identity", "device"], "cuda")
        change(file, ["identity", "precision"], "fp16")
    before = {path: path.read_bytes() for path in place.rglob("*.*") if path.suffix in (".json", ".pt")}
    missing, damaged = tuned(place, 1), tuned(place, 8)  # one is made from the prompt of "cuda"
    missing.unlink()
    damaged.write_text("{")
    assert program.main([*SMALL, "--out", str(place)]) == 0
    out = capsys.readouterr()
    assert "cell 2/2  fine-tuned PromptSRC H, aircraft, seed 1  took" in out.err and "meta-training" not in out.err
    assert "cuda fp16" in out.out and "cpu fp32" in out.out and "left out" not in out.err
    numbers = [text.split("per cent")[0] for text in (out.out, finished[1])]
    assert numbers[0] == numbers[1]
    for path, content in before.items():
        assert path in (missing, damaged) or path.read_bytes() == content or path.name.startswith(damaged.stem)
    monkeypatch.setattr(session.Session, "test_set", None)
    assert program.main([*SMALL, "--out", str(place)]) == 0 and not computed(capsys)


@pytest.mark.parametrize("number, key, reason", [
    (0, ["weights"], "weights 0 (now"), (5, ["settings", "lr"], "lr 0 (now 0.002)"),
    (5, ["tested_on", "aircraft"], "tested_on.aircraft 0 (now"), (7, ["trained_on", "aircraft"], "trained_on.aircraft 0 (now"),
    (5, ["prompt"], "another meta-prompt"), ("prompt", ["settings", "inner_steps"], "settings.inner_steps 0 (now 4)"),
    ("prompt", ["weights"], "weights 0 (now"), ("prompt", ["trained_on", "flowers"], "trained_on.flowers 0 (now")])
def test_run_refuses_before_any_work_what_was_made_otherwise(place, capsys, number, key, reason):
    path = results.meta_prompt(place / "mini", "coop", 1) if number == "prompt" else tuned(place, number)
    change(path, ["identity", *key], 0)
    tuned(place, 9).unlink()  # something to do
    results.meta_prompt(place / "mini", "cocoop", 1).unlink()
    assert program.main([*SMALL, "--out", str(place)]) == 2
    said = capsys.readouterr().err
    assert re.search(f"run.py: {re.escape(str(path))}: made .*{re.escape(reason)}.*; give --force", said), said
    assert not tuned(place, 9).exists() and "meta-training" not in said


def test_run_names_the_first_and_how_many_more(place, capsys):
    for number in (4, 5, 6):
        change(tuned(place, number), ["identity", "settings", "lr"], 0)
    assert program.main([*SMALL, "--out", str(place)]) == 2
    said = capsys.readouterr().err
    assert f"{tuned(place, 4)}: made otherwise: lr 0 (now 0.002), and 2 more like it; give --force to compute everything" in said


def test_all_images_of_a_dataset_may_have_changed(place, capsys):
    """What is finished agrees, but isn't what missing cells would be made from."""
    for number in range(10):
        change(tuned(place, number), ["identity", "tested_on", "aircraft"], "0")
    assert program.main([*SMALL, "--out", str(place)]) == 0  # nothing is missing
    tuned(place).unlink()
    assert program.main([*SMALL, "--out", str(place)]) == 2
    assert "tested_on.aircraft 0 (now " in capsys.readouterr().err


def test_force_computes_everything_with_the_same_bits(finished, place, capsys):
    prompt = results.meta_prompt(place / "mini", "coop", 1)
    before, first = {path: path.stat().st_mtime_ns for path in place.rglob("*-seed1.json")}, prompt.read_bytes()
    change(tuned(place), ["identity", "settings", "lr"], 0)
    change(prompt, ["identity", "device"], "cuda")
    assert program.main([*SMALL, "--force", "--out", str(place)]) == 0
    out = capsys.readouterr()
    assert "cell 10/10" in out.err and out.out == finished[1] and prompt.read_bytes() == first
    assert len(before) == 9 and all(path.stat().st_mtime_ns > time for path, time in before.items())


def test_every_cell_is_handed_on_with_force_and_its_epochs_are_shown(monkeypatch, capsys):
    forced = []

    def tune_one(session, test, settings, init, force, report_epoch):
        report_epoch(50, "loss 1.5", 1)
        forced.append((settings, init, force))

    monkeypatch.setattr(table, "evaluate", lambda session, test, prompt, force: forced.append((prompt, force)))
    monkeypatch.setattr(table, "learnt_prompt", lambda session, path, settings, seed: (path, settings, seed))
    for name in ("finetune_settings", "meta_settings"):
        monkeypatch.setattr(table, name, lambda session, args, method, seed: (method, seed))
    monkeypatch.setattr(table, "find_init", lambda session, given, settings: given)
    monkeypatch.setattr(table, "tune_one", tune_one)
    cells = [Entry(column, "pets", 3 if column.method else None, None, None) for column in columns.COLUMNS[:6]]
    monkeypatch.setattr(table, "find_work", lambda *_: ([], cells))
    fake = Namespace(test_set=str, find_prompt=lambda *given: given)
    table.compute_missing(fake, options.parse(["table", "--run", "--force"], ""))
    assert forced == [(HANDCRAFTED, True), *(((("meta", m, 3), (m, 3), 3), True) for m in METHODS),
                      (("coop", 3), "handcrafted", True), (("coop", 3), "meta", True)]
    assert computed(capsys)[-1] == "fine-tuned CoOp MP, pets, seed 3"


def test_one_process_of_several_prints(filled, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert printed(filled[0], capsys=capsys) == ("", "")


def test_a_gain_without_its_baseline_is_a_dash():
    cell = read.Cell(read.Number({1: 70.0}, 75.0), read.Number({}, 2.0))
    assert render.cell_text(cell, False, True) == "- (+2.0)" and render.cell_text(cell, True, True) == "70.0 (75.0!)"
    assert render.cell_text(cell._replace(gain=None), False, True) == "70.0 (75.0!)"


def test_gains_are_seed_by_seed_or_over_what_has_no_seed():
    ours = read.Number({1: 70.0, 2: 60.0}, 50.0)
    assert ours.minus(read.Number({2: 58.0, 3: 1.0}, 45.0)) == read.Number({2: 2.0}, 5.0)
    assert ours.minus(read.Number({None: 58.0}, None)) == read.Number({1: 12.0, 2: 2.0}, None)
    assert ours.minus(read.Number({}, 45.0)).mean is None


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex", "html"])
def test_zero_has_no_minus(papers, tmp_path, capsys, form):
    """A gain that rounds to zero, our own and the paper's, is +0.0."""
    published = columns.paper_accuracies()
    loss = {"finetune/coop/mp": -0.04, "zeroshot/mp-coop": -1e-9}

    def value(key, dataset, part, seed):
        base = {"finetune/coop/mp": "finetune/coop/hand", "zeroshot/mp-coop": "zeroshot/hand"}.get(key, key)
        return published[base][dataset][part] + loss.get(key, 0)

    write(tmp_path / "paper", PAPER, [1], value)
    shown = printed(tmp_path, "--data", str(tmp_path), "--paper", "--format", form, capsys=capsys).out
    assert not re.search(r"-0\.0(?!\d)", shown) and (form == "csv" or "+0.0" in shown)
    assert render.points([-0.04], sign=False) == "0.0" and render.points([-0.04, -0.02], sign=True) == "+0.0±0.0"
    assert render.points([-0.06], sign=True) == "-0.1" and render.points([0.04], sign=True) == "+0.0"


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
    shown = printed(out, "--format", "html", capsys=capsys)
    assert shown.err == ""
    text = shown.out
    found = Checker(text)
    assert found.addresses == [] and "script" not in found.tags and "http" not in text.replace("http-equiv", "")
    assert found.tags.count("tr") == 2 + 14 * 3 and found.tags.count("rect") == 6 * 11
    assert found.tags.count("polyline") == 3 * 3 and "inner_lr 0.004167" in "".join(found.texts)
    assert "fine-tuning: method promptsrc, seed 1, depth 9, length 4, classes base, epochs 20, lr 0.0025" in "".join(found.texts)
    gain = (numbers[1] - numbers[0])[:, 2, 0]
    assert all(f"{g:+.1f}".replace("-0.0", "+0.0") in found.texts for g in gain)
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "viewport" in text


def test_what_comes_from_files_is_escaped(tmp_path):
    nasty = '<img src=x onerror="alert(1)">&"\'^~'
    suite = MINI._replace(datasets=[nasty])
    write(tmp_path, suite, [1], lambda *_: 40.0)
    whole = read.read(suite, tmp_path, [1], "base")._replace(missing=["<script>"], made_by=["</style><script>"])
    grid = render.grid(whole)
    found = Checker(page.html(whole, grid))
    assert "img" not in found.tags and "script" not in found.tags and nasty in "".join(found.texts)
    for line in render.markdown(grid).splitlines()[2:5]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 13
    assert r"\&" in render.latex(grid) and r"\^{}\~{}" in render.latex(grid)
