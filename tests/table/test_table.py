"""Table 2 from result files: numbers against numpy, the paper's own table against the paper's text, every format, --run."""
import contextlib
import csv
import html
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

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
from mp.prompts import open_prompt
from mp.runtime import files
from mp.settings import PARTS, FinetuneSettings, as_dict
from mp.store import results
from mp.store.identity import FORMAT, Identity
from mp.table import averages, charts, columns, page, read, render
from tests.conftest import ROOT

COLUMNS = {column.key: column for column in columns.COLUMNS}
KEYS = list(COLUMNS)
PAPER = Suite("paper", paper.TRAINING, paper.NAMES, None, None, 200)
MINI = Suite("mini", mini.TRAINING, list(mini.TABLE), None, None, 50)
TRAINED_ON = dict.fromkeys(mini.TRAINING, "0123")


def write(out, suite, seeds, value, prompt=None):
    """A result file for every cell; `value(key, dataset, part, seed)` in per cent; `prompt`: the fingerprint in all."""
    for column in columns.COLUMNS:
        for dataset in suite.datasets:
            for seed in seeds if column.method else [None]:
                settings = None
                if column.tuned:
                    settings = as_dict(FinetuneSettings(column.method, **METHODS[column.method].finetune, seed=seed))
                identity = Identity(FORMAT, "ab" * 32, "cpu", "fp32", settings, tested_on={dataset: "0123"}, prompt=prompt)
                kind = "fine-tuning result" if column.tuned else "zero-shot result"
                made_by = {"command": f"python run.py makes {column.key}", "commit": "c0ffee", "torch": "2"}
                results.cell(column.file(out, dataset, seed, "base"), kind, identity, made_by,
                             lambda: {"accuracies": {p: value(column.key, dataset, p, seed) for p in PARTS}})


def write_prompt(path, **identity):
    about = {"format": FORMAT, "weights": "ab" * 32, "trained_on": TRAINED_ON, **identity}
    write_prompt(path, "coop", {"ctx": torch.zeros(4, 8)}, about, {})


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
    numbers = np.random.default_rng(0).uniform(20, 90, (len(KEYS), 11, 3, 3))
    numbers[0] = numbers[0, :, :, :1]  # the handcrafted zero-shot prompts have no seed

    def value(key, dataset, part, seed):
        return numbers[KEYS.index(key), MINI.datasets.index(dataset), PARTS.index(part), (seed or 1) - 1]

    for method in columns.SHOWN:
        write_training(out / "mini", method)
    write(out / "mini", MINI, [1, 2, 3], value, open_prompt(results.meta_prompt(out / "mini", "coop", 1)).fingerprint)
    return out, numbers


def write_training(out, method):
    """What a meta-training of 50 epochs leaves."""
    prompt = results.meta_prompt(out, method, 1)
    identity = {"weights": "ab" * 32, "trained_on": TRAINED_ON, "settings": {"method": method, "inner_lr": 0.025 / 6}}
    write_prompt(prompt, **identity)
    log = [dict(query_loss=3 / i, grad_norm=9 / i, clipped_norm=min(5, 9 / i)) for i in range(1, 51)]
    prompt.with_name("log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    prompt.with_name("settings.json").write_text(json.dumps({"identity": {"format": FORMAT, **identity}}))


def printed(out, *args, capsys):
    assert program.main(["table", "--out", str(out), *args]) == 0
    return capsys.readouterr()


def test_columns_are_the_papers_in_its_order():
    with open(columns.PAPER, newline="") as f:
        papers = next(csv.reader(f))[2:]
    assert [key for key in KEYS if key in papers] == papers
    baselines = {key: COLUMNS[key].baseline.key for key in papers if COLUMNS[key].baseline}
    assert baselines == {
        "zeroshot/mp-coop": "zeroshot/hand", "zeroshot/mp-cocoop": "zeroshot/hand", "zeroshot/mp-promptsrc": "zeroshot/hand",
        "finetune/coop/mp": "finetune/coop/hand", "finetune/cocoop/mp": "finetune/cocoop/hand",
        "finetune/promptsrc/mp": "finetune/promptsrc/hand"}


@pytest.mark.parametrize("source", ["", "its own paper"])
def test_a_new_method_has_its_columns_by_its_line_among_the_methods(source):
    """Unless the line says that it isn't of this paper."""
    code = """
from mp.learners import METHODS, Method
METHODS["another"] = Method("Another", "coop.CoOp", dict(inner_lr=0.01, batch=8), dict(batch=2), source={!r})
from mp.table.columns import COLUMNS
print(*(column.key for column in COLUMNS if column.method == "another"))
"""
    ended = subprocess.run([sys.executable, "-c", code.format(source)], cwd=ROOT, capture_output=True, text=True, check=True)
    own = ["zeroshot/mp-another", "finetune/another/hand", "finetune/another/mp"]
    assert ended.stdout.split() == ([] if source else own)


def test_numbers_against_numpy(filled, capsys):
    out, numbers = filled
    lines = printed(out, "--seeds", "1", "2", "3", capsys=capsys).out.splitlines()
    rows, name = {}, ""
    for line in lines[2:]:
        if words := re.split(r"\s\s+", line.strip()):
            if len(words) == len(KEYS) + 2:
                name = words.pop(0).rstrip("*")
            if len(words) == len(KEYS) + 1:
                rows[name, words[0]] = words[1:]
    assert len(rows) == 14 * 3
    groups = {"Average": range(11), "Average (train)": range(6), "Average (test)": range(6, 11)}
    groups |= {name: [i] for i, name in enumerate(MINI.datasets)}
    for (name, part), cells in rows.items():
        of_rows = numbers[:, list(groups[name]), PARTS.index(part)].mean(1)
        group = dict(zip(KEYS, of_rows))  # key -> [seeds]
        for cell, key in zip(cells, KEYS):
            base = "zeroshot/hand" if key.startswith("zeroshot/mp") else key.replace("/mp", "/hand")
            values = group[key] - group[base] if base != key else group[key]
            sign = "+" if base != key else ""
            deviation = f"±{values.std(ddof=1):.1f}" if key != "zeroshot/hand" else ""
            mean = round(values.mean(), 1) + 0.0  # no minus before a zero
            assert cell == f"{mean:{sign}.1f}{deviation}", (name, part, key)
    absolute = printed(out, "--seeds", "2", "--absolute", capsys=capsys).out
    assert f"{numbers[1, :, 0, 1].mean():.1f}" in absolute.splitlines()[3] and "±" not in absolute


@pytest.mark.parametrize("name", averages.averaged({"a": "train", "b": "test"}))
def test_no_folder_takes_the_place_of_an_average(tmp_path, capsys, name):
    (tmp_path / name / "owl").mkdir(parents=True)
    assert program.main(["table", "--out", str(tmp_path), "--datasets", "pets", str(tmp_path / name)]) == 2
    assert f"{name}: tables have a row of averages of this name; rename the folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Results that equal the paper's numbers; 50 in a column that it doesn't have."""
    out, published = tmp_path_factory.mktemp("paper"), columns.paper_accuracies()
    write(out / "paper", PAPER, [1], lambda key, dataset, part, _: published[key][dataset][part] if key in published else 50.0)
    return out


def test_the_papers_table_comes_back(papers, tmp_path, capsys):
    data = ["--data", str(tmp_path)]
    theirs = list(csv.DictReader(columns.PAPER.read_text().splitlines()))
    ours = list(csv.DictReader(printed(papers, *data, "--format", "csv", capsys=capsys).out.splitlines()))
    assert [{name: row[name] for name in theirs[0]} for row in ours] == theirs
    whole = read.read(PAPER, papers / "paper", [1], "base")
    (gain,) = COLUMNS["finetune/coop/mp"].numbers(whole.ours, "Average", "new", gain=True)
    assert f"{gain:.2f}" == "-18.71"  # as the paper prints it
    text = printed(papers, *data, "--paper", capsys=capsys).out
    assert "-18.7 (-18.7)" in text and "!)" not in text.replace("! where", "")
    path = COLUMNS["finetune/coop/mp"].file(papers / "paper", "DTD", 1, "base")
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
    assert len(commands) == len(KEYS)
    parsed = [options.parse(shlex.split(line)[2:], "") for line in commands]
    asked = [(a.command, a.method, getattr(a, "init", None)) for a in parsed]
    metas = [("meta", method, None) for method in columns.SHOWN]
    assert asked[: len(metas) + 3] == [("zeroshot", None, None), *metas, ("finetune", "coop", "handcrafted"),
                                       ("finetune", "coop", "meta")]
    assert all(a.out == tmp_path and a.datasets == ["pets", "cars"] for a in parsed)
    assert all(a.seeds == [1, 2] for a in parsed[1:])  # handcrafted words have no seed
    assert all(a.classes == "all" for a in parsed if a.command == "finetune")


def test_a_damaged_result_is_a_missing_one(filled, tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = COLUMNS["zeroshot/mp-coop"].file(tmp_path / "mini", "pets", 1, "base")
    path.write_text(path.read_text()[:40])
    out = printed(tmp_path, capsys=capsys)
    assert "pets-seed1.json: damaged; left out" in out.err and "python run.py meta --method coop --seeds 1" in out.err
    assert sum(" - " in line or line.endswith(" -") for line in out.out.splitlines()) == 9  # pets and two averages, 3 parts


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "html"])
def test_a_cell_of_fewer_seeds_than_asked_for_is_a_missing_one(filled, tmp_path, capsys, form):
    """In every format the same as without any of its seeds, and so are the averages over it."""
    out = shutil.copytree(filled[0], tmp_path / "runs")
    asked = ["--seeds", "1", "2", "3", "--format", form]
    whole = printed(out, *asked, capsys=capsys).out
    own = [COLUMNS["finetune/coop/mp"].file(out / "mini", "pets", seed, "base") for seed in (1, 2, 3)]
    own[1].unlink()
    partial = printed(out, *asked, capsys=capsys)
    assert partial.err.endswith(f"finetune --method coop --init meta --seeds 2 --out {out}\n")
    own[0].unlink()
    own[2].unlink()
    without = printed(out, *asked, capsys=capsys).out
    assert partial.out.replace("--seeds 2", "--seeds 1 2 3") == without != whole


def test_results_of_other_settings_or_prompts_are_left_out(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(COLUMNS["finetune/coop/hand"].file(tmp_path / "mini", "pets", 1, "base"), ["identity", "settings", "epochs"], 2)
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


@pytest.mark.parametrize("place, value", [
    (["trained_on"], {"pets": "0123"}), (["trained_on"], TRAINED_ON | {"birds": "0123"}), (["trained_on"], torch.ones(2)), ([], torch.ones(2))])
def test_what_was_made_from_a_meta_prompt_of_other_tasks_is_left_out(tmp_path, capsys, place, value):
    prompt = results.meta_prompt(tmp_path / "mini", "coop", 1)
    write_prompt(prompt)
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0, open_prompt(prompt).fingerprint)
    assert printed(tmp_path, capsys=capsys).err == ""
    change(prompt, ["identity", *place], value)
    said = printed(tmp_path, capsys=capsys).err
    assert said.count(f"{prompt}: trained on other tasks; left out, with what was made from it\n") == 1
    assert said.count(": left out, made from another meta-prompt") == 22 and "run.py meta --method coop --seeds 1 --out" in said


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
    change(COLUMNS["zeroshot/mp-coop"].file(tmp_path / "mini", "pets", 1, "base"), ["identity", *place], value)
    out = printed(tmp_path, capsys=capsys)
    assert f"pets-seed1.json: left out, made otherwise: {reason};" in out.err and out.err.count("left out") == 1


@pytest.mark.parametrize("key", ["finetune/coop/hand", "finetune/promptsrc/mp"])
def test_what_was_fine_tuned_on_other_images_than_most_of_its_dataset_and_seed_is_left_out(tmp_path, capsys, key):
    write(tmp_path / "mini", MINI, [1, 2], lambda *_: 50.0)
    for one in KEYS:
        for seed in (1, 2) if one.startswith("finetune") else ():
            for name in MINI.datasets:
                path = COLUMNS[one].file(tmp_path / "mini", name, seed, "base")
                change(path, ["identity", "trained_on"], {name: f"{name} {seed}"})
    assert "left out" not in printed(tmp_path, "--seeds", "1", "2", capsys=capsys).err
    path = COLUMNS[key].file(tmp_path / "mini", "pets", 2, "base")
    change(path, ["identity", "trained_on", "pets"], "4567")
    said = printed(tmp_path, "--seeds", "1", "2", capsys=capsys).err
    assert f"{path}: left out, made otherwise: trained_on.pets 4567 (now pets 2);" in said and said.count(": left out") == 1


def test_what_does_not_fit_has_no_say_in_which_images_do(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    for key in KEYS[1:]:
        path = COLUMNS[key].file(tmp_path / "mini", "pets", 1, "base")
        if key.startswith("finetune") and key != "finetune/coop/hand":
            change(path, ["identity", "settings", "shots"], 4)
            change(path, ["identity", "trained_on"], {"pets": "four"})
    said = printed(tmp_path, capsys=capsys).err
    assert said.count("made otherwise: shots 4 (now 16)") == said.count(": left out") == sum("finetune" in key for key in KEYS) - 1


def test_the_weights_given_are_those_that_count(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    out = printed(tmp_path, "--weights", str(mini.WEIGHTS), capsys=capsys)
    assert out.err.count("left out, made otherwise: weights abababababababababab (now") == 11 * len(KEYS) and "50.0" not in out.out


@pytest.mark.parametrize("prompt, results_there, command", [
    ("these weights", True, "zeroshot --prompt meta --method coop --seeds 1 "), ("none", False, "meta --method coop --seeds 1 "),
    ("other weights", True, "meta --method coop --seeds 1 "), ("other weights", False, "meta --method coop --seeds 1 "),
    ("damaged", False, "meta --method coop --seeds 1 ")])
def test_a_meta_prompt_that_cannot_be_used_is_learnt_anew_by_the_commands(tmp_path, capsys, prompt, results_there, command):
    """What can't be used is replaced only with --force."""
    if results_there:
        write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = results.meta_prompt(tmp_path / "mini", "coop", 1)
    if prompt != "none":
        write_prompt(path, **({} if prompt == "other weights" else {"weights": files.sha256(mini.WEIGHTS)}))
    if prompt == "damaged":
        path.write_text("x")
    said = printed(tmp_path, "--weights", str(mini.WEIGHTS), capsys=capsys).err
    line, = (line for line in said.splitlines() if line.startswith(f"  python run.py {command}"))
    assert line.count("--force") == (results_there or prompt != "none")
    asked = options.parse(shlex.split(line)[2:], "")
    assert asked.weights == mini.WEIGHTS and asked.out == tmp_path


def test_what_is_left_out_again_has_its_advice(tmp_path, capsys):
    """Most results are of images that aren't there any more: the new one is left out however often it is made."""
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    advice = "where that doesn't help, most are .*: `run.py table --run --force` makes all anew, another --out keeps both\n"
    assert not re.search(advice, printed(tmp_path, capsys=capsys).err)
    change(COLUMNS["zeroshot/hand"].file(tmp_path / "mini", "pets", 1, "base"), ["identity", "tested_on", "pets"], "4567")
    assert len(re.findall(advice, printed(tmp_path, capsys=capsys).err)) == 1


@pytest.mark.parametrize("place, value", [(["identity", "format"], FORMAT - 1), (["made_by"], {})])
def test_results_of_earlier_versions_are_refused(tmp_path, capsys, place, value):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    change(COLUMNS["zeroshot/mp-coop"].file(tmp_path / "mini", "pets", 1, "base"), place, value)
    assert program.main(["table", "--out", str(tmp_path)]) == 2
    assert "pets-seed1.json: from another version of this project" in capsys.readouterr().err


def test_depth_counts_as_it_was_asked_for(papers, tmp_path, capsys):
    """On the miniature too, whose towers have 3 layers: what asked for fewer than 9 isn't the paper's setting."""
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    for out, suite in ((tmp_path, MINI), (papers, PAPER)):
        path = COLUMNS["finetune/promptsrc/hand"].file(out / suite.name, suite.datasets[4], 1, "base")
        before = path.read_text()
        change(path, ["identity", "settings", "depth"], 3)
        said = printed(out, *(["--data", str(tmp_path)] if suite is PAPER else []), capsys=capsys).err
        assert said.count("left out, made otherwise: depth 3 (now 9)") == 1
        path.write_text(before)


def test_two_devices_in_one_table_are_both_named(tmp_path, capsys):
    write(tmp_path / "mini", MINI, [1], lambda *_: 50.0)
    path = COLUMNS["finetune/coop/hand"].file(tmp_path / "mini", "pets", 1, "base")
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


def tuned(place, key="finetune/coop/mp"):
    return COLUMNS[key].file(place / "mini", "aircraft", 1, "base")


def computed(capsys):
    """The progress lines of cells."""
    return [line.split("  ")[1] for line in capsys.readouterr().err.splitlines() if line.startswith("cell ")]


def test_run_leaves_what_is_finished_and_computes_the_rest(finished, place, capsys, monkeypatch):
    """Whatever device made it. A finished cell isn't opened for its test images; a damaged one is computed again."""
    for file in [tuned(place), tuned(place, "zeroshot/hand"), results.meta_prompt(place / "mini", "coop", 1)]:
        change(file, ["identity", "device"], "cuda")
        change(file, ["identity", "precision"], "fp16")
    before = {path: path.read_bytes() for path in place.rglob("*.*") if path.suffix in (".json", ".pt")}
    missing, damaged = tuned(place, "zeroshot/mp-coop"), tuned(place, "finetune/promptsrc/hand")  # one is made from the prompt of "cuda"
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


@pytest.mark.parametrize("where, key, reason", [
    ("zeroshot/hand", ["weights"], "weights 0 (now"), ("finetune/coop/mp", ["settings", "lr"], "lr 0 (now 0.002)"),
    ("finetune/coop/mp", ["tested_on", "aircraft"], "tested_on.aircraft 0 (now"), ("finetune/cocoop/mp", ["trained_on", "aircraft"], "trained_on.aircraft 0 (now"),
    ("finetune/coop/mp", ["prompt"], "another meta-prompt"), ("prompt", ["settings", "inner_steps"], "settings.inner_steps 0 (now 4)"),
    ("prompt", ["weights"], "weights 0 (now"), ("prompt", ["trained_on", "flowers"], "trained_on.flowers 0 (now")])
def test_run_refuses_before_any_work_what_was_made_otherwise(place, capsys, where, key, reason):
    path = results.meta_prompt(place / "mini", "coop", 1) if where == "prompt" else tuned(place, where)
    change(path, ["identity", *key], 0)
    tuned(place, "finetune/promptsrc/mp").unlink()  # something to do
    results.meta_prompt(place / "mini", "cocoop", 1).unlink()
    assert program.main([*SMALL, "--out", str(place)]) == 2
    said = capsys.readouterr().err
    assert re.search(f"run.py: {re.escape(str(path))}: made .*{re.escape(reason)}.*; give --force", said), said
    assert not tuned(place, "finetune/promptsrc/mp").exists() and "meta-training" not in said


def test_run_names_the_first_and_how_many_more(place, capsys):
    for key in ("finetune/coop/hand", "finetune/coop/mp", "finetune/cocoop/hand"):
        change(tuned(place, key), ["identity", "settings", "lr"], 0)
    assert program.main([*SMALL, "--out", str(place)]) == 2
    said = capsys.readouterr().err
    path = tuned(place, "finetune/coop/hand")
    assert f"{path}: made otherwise: lr 0 (now 0.002), and 2 more like it; give --force to compute everything" in said


def test_all_images_of_a_dataset_may_have_changed(place, capsys):
    """What is finished agrees, but isn't what missing cells would be made from."""
    for key in KEYS:
        change(tuned(place, key), ["identity", "tested_on", "aircraft"], "0")
    for _ in ("nothing is missing", "one is"):
        assert program.main([*SMALL, "--out", str(place)]) == 2
        said = capsys.readouterr().err
        assert "tested_on.aircraft 0 (now " in said and "give --force to compute everything anew, or another --out\n" in said
        tuned(place).unlink(missing_ok=True)


def test_run_names_what_is_of_other_images_than_those_on_disk_not_what_is_of_fewer(place, capsys):
    for key in KEYS[1:]:
        change(tuned(place, key), ["identity", "tested_on", "aircraft"], "0")
    assert program.main([*SMALL, "--out", str(place)]) == 2
    assert f"run.py: {tuned(place, KEYS[1])}: made otherwise: tested_on.aircraft 0 (now " in capsys.readouterr().err


def test_force_computes_everything_with_the_same_bits(finished, place, capsys):
    prompt = results.meta_prompt(place / "mini", "coop", 1)
    before, first = {path: path.stat().st_mtime_ns for path in place.rglob("*-seed1.json")}, prompt.read_bytes()
    change(tuned(place), ["identity", "settings", "lr"], 0)
    change(prompt, ["identity", "device"], "cuda")
    assert program.main([*SMALL, "--force", "--out", str(place)]) == 0
    out = capsys.readouterr()
    assert f"cell {len(KEYS)}/{len(KEYS)}" in out.err and out.out == finished[1] and prompt.read_bytes() == first
    assert len(before) == len(KEYS) - 1 and all(path.stat().st_mtime_ns > time for path, time in before.items())


def test_every_cell_is_handed_on_with_force_and_its_epochs_are_shown(monkeypatch, capsys):
    forced = []

    def tune_one(session, test, settings, init, force, report_epoch):
        report_epoch(50, "loss 1.5", 1)
        forced.append((settings, init, force))

    monkeypatch.setattr(table, "evaluate", lambda session, test, prompt, force: forced.append((prompt, force)))
    monkeypatch.setattr(table, "learnt_prompt", lambda session, given, settings: (given, settings))
    monkeypatch.setattr(table, "finetune_settings", lambda session, method, seed, given: (method, seed))
    monkeypatch.setattr(table, "find_init", lambda session, given, settings: given)
    monkeypatch.setattr(table, "tune_one", tune_one)
    chosen = [COLUMNS[key] for key in KEYS if key.startswith("zeroshot/")]
    chosen += [COLUMNS["finetune/coop/hand"], COLUMNS["finetune/coop/mp"]]
    cells = [(column.key, "pets", 3 if column.method else None) for column in chosen]
    monkeypatch.setattr(table, "find_work", lambda *_: ([], cells))
    fake = Namespace(test_set=str, meta_settings=lambda method, seed: (method, seed))
    table.compute_missing(fake, options.parse(["table", "--run", "--force"], ""))
    assert forced == [(HANDCRAFTED, True), *((("meta", (m, 3)), True) for m in columns.SHOWN),
                      (("coop", 3), "handcrafted", True), (("coop", 3), "meta", True)]
    assert computed(capsys)[-1] == "fine-tuned CoOp MP, pets, seed 3"


def test_one_process_of_several_prints(filled, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert printed(filled[0], capsys=capsys) == ("", "")


def numbers_of(**columns):
    """What the table holds of one dataset's new classes; `columns`: hand and mp, by seed."""
    keys = {"hand": "finetune/coop/hand", "mp": "finetune/coop/mp", "words": "zeroshot/hand", "learnt": "zeroshot/mp-coop"}
    by_key = {}
    for name, seeds in columns.items():
        by_key[keys[name]] = {seed: {"pets": {"new": value}} for seed, value in seeds.items()}
    return by_key


def test_a_gain_without_its_baseline_is_a_dash():
    whole = Namespace(ours=numbers_of(mp={1: 70.0}), paper=numbers_of(hand={None: 73.0}, mp={None: 75.0}))
    column = COLUMNS["finetune/coop/mp"]
    assert render.cell_text(whole, column, "pets", "new", False) == "- (+2.0)"
    assert render.cell_text(whole, column, "pets", "new", True) == "70.0 (75.0!)"
    assert render.cell_text(whole, column._replace(baseline=None), "pets", "new", False) == "70.0 (75.0!)"


def test_gains_are_seed_by_seed_or_over_what_has_no_seed():
    found = numbers_of(mp={1: 70.0, 2: 60.0}, hand={2: 58.0, 3: 1.0}, words={None: 58.0}, learnt={1: 70.0, 2: 60.0})
    for key, gains in (("finetune/coop/mp", [2.0]), ("zeroshot/mp-coop", [12.0, 2.0])):
        assert COLUMNS[key].numbers(found, "pets", "new", gain=True) == gains
        assert COLUMNS[key].numbers(found, "pets", "base", gain=True) == []
    assert COLUMNS["finetune/coop/hand"].numbers(found, "pets", "new", gain=False) == [58.0, 1.0]


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex", "html"])
def test_zero_has_no_minus(papers, tmp_path, capsys, form):
    """A gain that rounds to zero, our own and the paper's, is +0.0."""
    published = columns.paper_accuracies()
    loss = {"finetune/coop/mp": -0.04, "zeroshot/mp-coop": -1e-9}

    def value(key, dataset, part, seed):
        base = {"finetune/coop/mp": "finetune/coop/hand"}.get(key, key if key in published else "zeroshot/hand")
        base = "zeroshot/hand" if key == "zeroshot/mp-coop" else base
        return published[base][dataset][part] + loss.get(key, 0)

    write(tmp_path / "paper", PAPER, [1], value)
    shown = printed(tmp_path, "--data", str(tmp_path), "--paper", "--format", form, capsys=capsys).out
    assert not re.search(r"-0\.0(?!\d)", shown) and (form == "csv" or "+0.0" in shown)


def test_no_zero_has_a_minus_whatever_is_rounded_to_it(tmp_path, capsys):
    """Values near 50, and in one dataset near 0, whose gains are of all sizes below and above what is shown."""
    draw = np.random.default_rng(0)

    def value(key, dataset, part, seed):
        if dataset == "pets":
            return -0.0 if part == "base" else abs(gain())
        return 50 + gain()

    def gain():
        return float(draw.choice([-1, 1]) * 10.0 ** draw.uniform(-12, -1))

    write(tmp_path / "mini", MINI, [1, 2, 3], value)
    forms, asked = ["text", "markdown", "latex", "csv", "html"], [["--seeds", "1", "2", "3"], ["--absolute"]]
    for form, how in product(forms, asked):
        shown = printed(tmp_path, "--format", form, *how, capsys=capsys).out
        assert not re.search(r"(?<!\w)[-−]0(\.0+)?(?![\d.])", shown)
        assert re.search(r"[+ ,>]0\.0", shown)


def test_markdown_latex_and_files(filled, tmp_path, capsys):
    out, _ = filled
    lines = printed(out, "--format", "markdown", capsys=capsys).out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 14 * 3 and {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(KEYS) + 3}
    lines = printed(out, "--format", "latex", "--seeds", "1", "2", capsys=capsys).out.splitlines()
    rows = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 1 + 14 * 3 and all(len(re.findall(r"(?<!\\)&", line)) == len(KEYS) + 1 for line in rows)
    assert r"$\pm$" in rows[1] and "±" not in "".join(rows)
    said = printed(out, "--format", "csv", "--to", str(tmp_path / "t.csv"), capsys=capsys)
    assert said.out == "" and "t.csv written" in said.err
    assert len(list(csv.reader(io.StringIO((tmp_path / "t.csv").read_text())))) == 34
    assert program.main(["table", "--out", str(out), "--to", str(tmp_path / "t.csv" / "x")]) == 2


class Checker(HTMLParser):
    """Every tag is closed in order; collects the text and every address."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.texts, self.tags, self.ids, self.targets = [], [], [], [], [], []
        self.feed(text)
        assert self.open == [] and len(set(self.ids)) == len(self.ids) and set(self.targets) <= set(self.ids)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action") or k.startswith("on")]
        self.ids += [v for k, v in attrs if k == "id"]
        self.targets += [v for k, v in attrs if k == "popovertarget"]
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
    assert found.addresses == ["#gains"] and "gains" in found.ids and "script" not in found.tags and "http" not in text.replace("http-equiv", "")
    assert found.tags.count("tr") == 2 + 14 * 3 and found.tags.count("rect") == 11 * len([c for c in columns.COLUMNS if c.baseline])
    assert found.tags.count("polyline") == 3 * len(columns.SHOWN) and "inner_lr 0.00416667" in "".join(found.texts)
    assert "classes base, epochs 20, lr 0.0025" in "".join(found.texts)
    gain = (numbers[1] - numbers[0])[:, 2, 0]
    assert all(f"{g:+.1f}".replace("-0.0", "+0.0") in found.texts for g in gain)
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "viewport" in text
    assert "thead td, tbody th { position: sticky; left: 0;" in text and "thead { position: sticky; top: 0;" in text
    titles = re.search(r"</tr><tr>(.*?)</tr></thead>", text)[1]
    pairs = re.findall(r'<th class="pair" scope="col">(.*?)</th>', titles)
    assert pairs == [f"{METHODS[method].title} H" for method in columns.SHOWN]


@pytest.mark.parametrize("absolute", [False, True])
def test_every_number_on_the_page_names_its_files_and_their_commands(filled, tmp_path, capsys, absolute):
    """And what has no number opens nothing. Two commands made the numbers of one dataset."""
    out = shutil.copytree(filled[0], tmp_path / "runs")
    again = COLUMNS["finetune/coop/mp"].file(out / "mini", "pets", 2, "base")
    change(again, ["provenance", "command"], "python run.py <&> again")
    COLUMNS["zeroshot/hand"].file(out / "mini", "cars", 0, "base").unlink()
    asked = ["--seeds", "1", "2", "3", "--format", "html", *(["--absolute"] if absolute else [])]
    text = printed(out, *asked, capsys=capsys).out
    Checker(text)
    tips = dict(re.findall(r'<dialog popover id="(.*?)" aria-label=".*?">(.*?)</dialog>', text))
    groups = {"Average": MINI.datasets, "Average (train)": MINI.training, "Average (test)": MINI.datasets[6:]}
    groups |= {name: [name] for name in MINI.datasets}
    rows = re.findall(r"<tr>(?:<th rowspan.*?</th>)?<th class=\"part\" scope=\"row\">.*?</th>(.*?)</tr>", text)
    for (name, part), row in zip(product(groups, PARTS), rows, strict=True):
        for key, (target, number) in zip(KEYS, re.findall(r'<td.*?>(?:<button popovertarget="(.*?)">)?(.*?)<', row), strict=True):
            column = COLUMNS[key]
            needed = [column] if absolute or not column.baseline else [column, column.baseline]
            there = "cars" not in groups[name] or COLUMNS["zeroshot/hand"] not in needed
            assert bool(target) == (number != "-") == there
            if not there:
                continue
            title, *lines = re.findall(r"<(?:strong|p><code|p)>(.*?)</", tips[target])
            assert title == f"{name}, {column.group} {column.title}"
            told = {}
            for command, files_of in zip(lines[::2], lines[1::2], strict=True):
                folder, names = files_of.split(": ")
                told |= {Path(folder) / one: html.unescape(command) for one in names.split(", ")}
            seeds = (1, 2, 3) if column.method else (1,)
            paths = [column.file(out / "mini", dataset, seed, "base") for dataset in groups[name] for seed in seeds]
            assert told == {path: json.loads(path.read_text())["provenance"]["command"] for path in paths}
            assert ("python run.py <&> again" in told.values()) == (again in paths)


def test_ticks_are_round_numbers_that_cover_the_range():
    draw = np.random.default_rng(0)
    cases = [(0.0, 0.0), (3.0, 3.0), (-2.5, -2.5), (-1e29, 1e29), (1e29, 1e29), (0.0, 5e-324), (1e-12, 1e-12), (0.1, 0.3), (2.0, 2.0 + 1e-15)]
    for _ in range(3000):
        low = float(draw.choice([-1, 0, 1]) * 10.0 ** draw.uniform(-12, 29))
        cases.append((low, low + float(draw.choice([0, 1]) * 10.0 ** draw.uniform(-12, 29))))
    for low, high in cases:
        found = charts.ticks(low, high)
        step = found[1] - found[0]
        slack = 1e-6 * step
        assert 3 <= len(found) <= 8 and np.allclose(np.diff(found), step, rtol=1e-6)
        assert found[0] <= low + slack and high - slack <= found[-1]
        assert found[1] > low - step / 10 or high - low < 1e-6 or high - low < 0.02 * max(abs(low), abs(high))  # none to spare
        mantissa = float(f"{step:.6e}".split("e")[0])
        assert mantissa in (1, 2, 5)
        labels = [f"{tick:g}" for tick in found]
        assert len(set(labels)) == len(labels) and "-0" not in labels
        assert all(abs(float(label) - tick) <= slack for label, tick in zip(labels, found)), (low, high)


@pytest.mark.parametrize("epochs, labels", [(1, [0, 1]), (3, [0, 1, 2, 3]), (33, [0, 10, 20, 30, 40]), (200, [0, 50, 100, 150, 200])])
def test_epochs_are_whole(epochs, labels):
    assert charts.ticks(0, epochs, least=1) == labels


def test_a_curve_lies_on_its_axes():
    """A value that a tick names is at the height of its label; all of a line is within the grid; one epoch is a dot."""
    log = [dict(query_loss=value) for value in (2.0, 1.0, 0.5, 1.5)]
    drawn = charts.plot("CoOp", "query loss", "", [log, log[:1]], {"query_loss": "a"})
    labels = {(x, label): float(y) for x, y, label in re.findall(r'<text class="soft" x="(.*?)" y="(.*?)" .*?>(.*?)</text>', drawn)}
    heights = {label: y - 4 for (x, label), y in labels.items() if x == str(charts.LEFT - 5)}
    whole, dot = ([tuple(map(float, corner.split(","))) for corner in points.split()] for points in re.findall(r'points="(.*?)"', drawn))
    assert [y for _, y in whole[:4]] == [heights[label] for label in ("2", "1", "0.5", "1.5")]
    assert [f"{x:.1f}" for x, _ in whole[:4]] == [x for x, label in list(labels)[1:5]] and dot == whole[:1] * 2
    assert "epoch" in drawn and "query loss" in drawn
    assert all(charts.LEFT <= x <= charts.RIGHT and charts.TOP <= y <= charts.BOTTOM for x, y in whole)


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e308])
def test_what_no_axis_can_span_is_not_drawn(filled, tmp_path, capsys, value):
    out = shutil.copytree(filled[0], tmp_path / "runs")
    log = results.meta_prompt(out / "mini", "coop", 1).with_name("log.jsonl")
    log.write_text(log.read_text() + json.dumps(dict(query_loss=-value, grad_norm=value, clipped_norm=1)) + "\n")
    shown = printed(out, "--format", "html", capsys=capsys)
    assert shown.out.count("<polyline") == 3 * (len(columns.SHOWN) - 1) and shown.err == ""


@pytest.mark.parametrize("what", ["another training's log", "no prompt", "damaged prompt", "damaged settings",
                                  "a tensor in the prompt"])
def test_the_page_shows_only_what_belongs_to_the_prompts_that_are_there(filled, tmp_path, capsys, what):
    """Curves and settings of meta-training: those of one method's don't, of the others they do."""
    out = shutil.copytree(filled[0], tmp_path / "runs")
    prompt = results.meta_prompt(out / "mini", "coop", 1)
    settings = prompt.with_name("settings.json")
    if what == "another training's log":
        change(settings, ["identity", "settings", "inner_lr"], 0.5)
    elif what == "no prompt":
        prompt.unlink()
    elif what == "a tensor in the prompt":
        change(prompt, ["identity", "settings"], torch.ones(2))
    else:
        (prompt if what == "damaged prompt" else settings).write_text("x")
    text = printed(out, "--format", "html", capsys=capsys).out
    assert text.count("<polyline") == 3 * (len(columns.SHOWN) - 1)
    told = text.count("meta-training: method")
    assert told == len(columns.SHOWN) - ("prompt" in what) and "inner_lr 0.5" not in text


def test_what_comes_from_files_is_escaped(tmp_path):
    nasty = '<img src=x onerror="alert(1)">&"\'^~'
    suite = MINI._replace(datasets=[nasty])
    write(tmp_path, suite, [1], lambda *_: 40.0)
    told = ["</code><script>", "\x1b\ud800", ["<script>"], None]
    for key, command in zip(KEYS, told):
        change(COLUMNS[key].file(tmp_path, nasty, 1, "base"), ["provenance", "command"], command)
    whole = read.read(suite, tmp_path, [1], "base")._replace(missing=["<script>"], made_by=["</style><script>"])
    rows, notes = render.make_rows(whole, False), render.make_notes(whole, False)
    found = Checker(page.html(whole, rows, notes))
    assert "img" not in found.tags and "script" not in found.tags and nasty in "".join(found.texts)
    assert {"</code><script>", r"\x1b\ud800", "['<script>']", "None"} <= set(found.texts)
    for line in render.markdown(whole, rows, notes).splitlines()[2:5]:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(KEYS) + 3
    assert r"\&" in render.latex(whole, rows, notes) and r"\^{}\~{}" in render.latex(whole, rows, notes)


def test_other_methods_stand_beside_the_papers_if_they_are_asked_for(filled, tmp_path, capsys):
    out = shutil.copytree(filled[0], tmp_path / "runs")
    usual = {look: printed(out, "--format", look, capsys=capsys).out for look in ("text", "csv", "latex", "html", "markdown")}
    assert not any("maple" in text.lower() for text in usual.values())
    wide = columns.make_columns([*columns.SHOWN, "maple"])
    own = [column for column in wide if column.method == "maple"]
    assert [column.key for column in own] == ["zeroshot/mp-maple", "finetune/maple/hand", "finetune/maple/mp"]
    for column in own:
        for dataset in MINI.datasets:
            settings = None
            if column.tuned:
                row = METHODS["maple"]
                settings = as_dict(FinetuneSettings("maple", **row.prompt, **row.finetune)) 
            identity = Identity(FORMAT, "ab" * 32, "cpu", "fp32", settings, tested_on={dataset: "0123"})
            kind = "fine-tuning result" if column.tuned else "zero-shot result"
            results.cell(column.file(out / "mini", dataset, 1, "base"), kind, identity, {"commit": "c0ffee", "torch": "2"},
                         lambda: {"accuracies": {part: 61.5 for part in PARTS}})
    for look, text in usual.items():
        shown = printed(out, "--methods", "maple", "--format", look, capsys=capsys)
        assert "MaPLe MP" in shown.out or look == "csv"
        assert shown.out.count("<button") - text.count("<button") == (14 * 3 * 3 if look == "html" else 0)
        assert "MaPLe" not in shown.err
        if look == "csv":
            before, now = (list(csv.DictReader(io.StringIO(one))) for one in (text, shown.out))
            assert list(now[0]) == ["dataset", "metric", *(column.key for column in wide)]
            for old, new in zip(before, now, strict=True):
                assert {key: new.pop(key) for key in [column.key for column in own]} == dict.fromkeys(
                    [column.key for column in own], "61.50") and new == old
    shown = printed(out, "--methods", "maple", "--seeds", "2", capsys=capsys)
    assert "python run.py meta --method maple --seeds 2" in shown.err and "finetune --method maple --init meta" in shown.err
    assert printed(out, "--methods", "coop", capsys=capsys).out == usual["text"]
