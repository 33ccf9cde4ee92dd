"""Table 2 from results that lie on the shelf: which belong to it, which don't, and what is refused; nothing but results is
needed. Here they are written as commands write them, without a weight or an image."""
import csv
import io
import re
import shutil
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

import run as program
from data.suite import open_suite
from mp.experiment import arms
from mp.experiment.arms import START
from mp.learners.settings import hashed
from mp.prompts import open_prompt, write_prompt
from mp.report import table2
from mp.runtime import files
from mp.settings import PARTS
from mp.store import cells
from mp.store.cells import Identity
from tests.conftest import ROOT
from tests.report.tables import COLUMNS, KEYS

NAMES = ["pets", "cars"]
FINGERPRINT = {"coop": "c" * 64, "cocoop": "cc" * 32, "promptsrc": "5" * 64}


def write(out, key, dataset, seed, value, tasks=None, weights="ab" * 32, images="0123", shots="its few shots",
          prompt=None, precision="auto", data=None, **tuned):
    """One result; `tuned`: changes of the usual fine-tuning. Returns its path."""
    suite = open_suite(data, None, tasks)
    arm = COLUMNS[key].arm
    if arm.tuned is not None:
        arm = arm._replace(tuned=tuple(tuned.items()))
    start, meta = arm.words or suite.template(dataset) if arm.words is not None else START, None
    if arm.learnt is not None:
        start = prompt or FINGERPRINT[arm.method]
        meta = asdict(Identity(weights, precision, START, hashed(arms.meta_settings(suite, arm, seed)),
                               dict.fromkeys(suite.training, "its images")))
    settings = hashed(arms.tuning_settings(arm, seed)) if arm.tuned is not None else None
    trained_on = {dataset: shots} if arm.tuned is not None else None
    identity = Identity(weights, precision, start, settings, trained_on, {dataset: images}, meta)
    folder = out / suite.name / ("zeroshot" if arm.tuned is None else "finetune") / arms.folder_words(suite, arm, start)
    path = folder / cells.name_of(arms.result_words(dataset, seed), identity, ".json")
    about = {"command": f"python run.py makes {key}", "commit": "c0ffee", "torch": "2", "device": "cpu", "precision": "fp32"}
    files.write_json(path, {"accuracies": {part: value(part) for part in PARTS}, "identity": asdict(identity),
                            "provenance": about})
    return path


def fill(out, numbers=lambda *_: 50.0, seeds=(1,), names=NAMES, **changes):
    for key in KEYS:
        for dataset in names:
            for seed in seeds if COLUMNS[key].arm.method else [None]:
                write(out, key, dataset, seed, lambda part: numbers(key, dataset, part, seed), **changes)


@pytest.fixture
def printed(capsys):
    """What `table` prints of these two datasets, and says."""
    def call(out, *more, code=0):
        assert program.main(["table", "--out", str(out), "--datasets", *NAMES, *map(str, more)]) == code
        return capsys.readouterr()
    return call


def read_csv(text):
    return {(line["dataset"], line["metric"].lower()): line for line in csv.DictReader(io.StringIO(text))}


def test_the_numbers_are_those_of_the_files_here_and_elsewhere(printed, tmp_path):
    """A copy of the results alone, without prompts, gives the same table."""
    drawn, numbers = np.random.default_rng(0), {}

    def value(*place):
        return numbers.setdefault(place, float(drawn.uniform(20, 90)))

    fill(tmp_path / "a", value, (1, 2))
    shown = printed(tmp_path / "a", "--seeds", 1, 2, "--format", "csv")
    assert shown.err == ""
    for (dataset, part), line in read_csv(shown.out).items():
        if part != "hm":
            for key in KEYS:
                values = [numbers[key, dataset, part, seed] for seed in ((1, 2) if COLUMNS[key].arm.method else (None,))]
                assert abs(float(line[key]) - np.mean(values)) < 0.00501
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert printed(tmp_path / "b", "--seeds", 1, 2, "--format", "csv").out == shown.out
    for form, begins in (("text", " "), ("markdown", "|"), ("html", "<!")):
        assert printed(tmp_path / "a", "--format", form).out.startswith(begins)
    assert printed(tmp_path / "a", "--absolute").out != printed(tmp_path / "a").out
    said = printed(tmp_path / "a", "--format", "csv", "--seeds", 1, 2, "--to", tmp_path / "t.csv")
    assert said.out == "" and "t.csv written" in said.err and (tmp_path / "t.csv").read_text() == shown.out
    printed(tmp_path / "a", "--to", tmp_path / "t.csv" / "x", code=2)


OTHERS = {  # beside the right ones, of which none of these is
    "settings": dict(key="finetune/coop/hand", epochs=2), "other tasks": dict(key="zeroshot/mp-coop", tasks=["pets"]),
    "precision": dict(key="zeroshot/mp-coop", precision="bf16"), "tuned tasks": dict(key="finetune/coop/mp", tasks=["pets"]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_of_something_else_is_not_shown(what, printed, tmp_path):
    """Also not in the place of what is missing."""
    fill(tmp_path)
    whole = printed(tmp_path)
    other = dict(OTHERS[what])
    key = other.pop("key")
    path = write(tmp_path, key, "pets", 1, lambda part: 77.0, **other)
    again = printed(tmp_path)
    assert again.out == whole.out and "1 files of 0.0 MB below" in again.err and "belong to none of these numbers" in again.err
    for right in path.parent.parent.rglob("pets-seed1-*.json"):
        column = COLUMNS[key]
        if right != path and right.parent.name == arms.folder_words(open_suite(None), column.arm, ""):
            right.unlink()
    said = printed(tmp_path, "--format", "csv")
    assert read_csv(said.out)["pets", "base"][key] == "" and f"1 of {2 * len(KEYS)} results are missing; table --run" in said.err


def test_usual_words_with_unusual_settings_in_the_file_are_not_shown(printed, tmp_path):
    """The identity counts, not the folder that a file lies in."""
    fill(tmp_path)
    path = write(tmp_path, "finetune/coop/hand", "pets", 1, lambda part: 77.0, epochs=2)
    right, = (tmp_path / "mini/finetune/coop-handcrafted-base").glob("pets-*.json")
    right.unlink()
    path.rename(right.with_name(path.name))
    assert read_csv(printed(tmp_path, "--format", "csv").out)["pets", "base"]["finetune/coop/hand"] == ""


REFUSED = {
    "weights": (dict(key="zeroshot/mp-coop", weights="cd" * 32), "weights"),
    "test images": (dict(key="zeroshot/hand", seed=None, images="4567"), "test images of pets"),
    "training images": (dict(key="finetune/promptsrc/hand", shots="4567"), "training images of pets and seed 1"),
    "meta-prompts": (dict(key="finetune/coop/mp", prompt="d" * 64), "meta-prompts of coop and seed 1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_two_that_differ_in_what_nobody_says_are_refused(what, printed, tmp_path):
    """With both paths: which is meant can't be known."""
    fill(tmp_path)
    changes, says = REFUSED[what]
    changes = {"seed": 1} | changes
    other = write(tmp_path, changes.pop("key"), "pets", changes.pop("seed"), lambda part: 77.0, **changes)
    said = printed(tmp_path, code=2)
    assert said.out == "" and f"made with different {says}" in said.err and ("--weights" in said.err) == (what == "weights")
    first, second = re.match(r"run.py: (\S+\.json) and (\S+\.json): ", said.err).groups()
    assert str(other) in (first, second) and first != second
    other.unlink()
    printed(tmp_path)


def test_of_a_meta_prompt_that_was_learnt_again_the_file_that_is_there_counts(printed, tmp_path):
    """Two prompts of the same identity and other bits: with the file it is known whose results are shown, without it not."""
    for dataset in NAMES:
        old = write(tmp_path, "zeroshot/mp-coop", dataset, 1, lambda part: 10.0, prompt="0" * 64)
    meta = cells.read(old).identity["meta"]
    file = tmp_path / "mini/meta" / f"coop-seed1-{cells.digits_of(meta)}" / "prompt.pt"
    write_prompt(file, "coop", {"ctx": torch.randn(4, 128)}, meta, {})
    rows = read_csv(printed(tmp_path, "--format", "csv").out)  # the only results there are those of the older prompt
    assert {rows[name, "base"]["zeroshot/mp-coop"] for name in NAMES} == {""}
    for number, dataset in enumerate(NAMES, 1):
        write(tmp_path, "zeroshot/mp-coop", dataset, 1, lambda part: 60.0, prompt=open_prompt(file).fingerprint)
        rows = read_csv(printed(tmp_path, "--format", "csv").out)  # before it is evaluated on a dataset, that has none
        shown = [rows[name, "base"]["zeroshot/mp-coop"] for name in NAMES]
        assert shown == ["60.00"] * number + [""] * (len(NAMES) - number)
    file.write_bytes(file.read_bytes()[:-9])
    assert "prompt.pt: damaged" in printed(tmp_path, code=2).err
    file.unlink()
    assert "made with different meta-prompts of coop" in printed(tmp_path, code=2).err


def test_the_weights_given_are_those_that_count(printed, tmp_path):
    fill(tmp_path)
    file = tmp_path / "w.pt"
    file.write_text("other weights")
    fill(tmp_path, lambda *_: 61.5, weights=files.sha256(file))
    assert "made with different weights" in printed(tmp_path, code=2).err
    cells_of_pets = read_csv(printed(tmp_path, "--weights", file, "--format", "csv").out)["pets", "base"]
    assert {cells_of_pets[key] for key in KEYS} == {"61.50"}


def test_a_cell_that_lacks_a_seed_is_a_dash(printed, tmp_path):
    fill(tmp_path, seeds=(1, 2))
    write(tmp_path, "finetune/coop/hand", "pets", 3, lambda part: 50.0)
    line = read_csv(printed(tmp_path, "--seeds", 1, 2, 3, "--format", "csv").out)["pets", "base"]
    assert line["zeroshot/hand"] == "50.00" and line["finetune/coop/hand"] == "50.00"
    assert {line[key] for key in KEYS if key not in ("zeroshot/hand", "finetune/coop/hand")} == {""}


@pytest.mark.parametrize("damage", ["cut", "renamed"])
def test_a_damaged_result_is_a_missing_one(damage, printed, tmp_path):
    """And stays as it is."""
    fill(tmp_path)
    path, = (tmp_path / "mini/zeroshot/meta-coop").glob("pets-*.json")
    text = path.read_text()
    path.write_text({"cut": text[:40], "renamed": text.replace("auto", "fp16")}[damage])
    before = path.read_bytes()
    said = printed(tmp_path, "--format", "csv")
    assert read_csv(said.out)["pets", "base"]["zeroshot/mp-coop"] == "" and f"1 of {2 * len(KEYS)} results" in said.err
    assert path.read_bytes() == before


def test_nobody_waits_for_torch(tmp_path):
    fill(tmp_path)
    code = "import sys, run; assert run.main(sys.argv[1:]) == 0 and 'torch' not in sys.modules"
    for more in ([], ["--format", "html"]):
        subprocess.run([sys.executable, "-c", code, "table", "--out", tmp_path, *more], cwd=ROOT, check=True, capture_output=True)


def test_nothing_is_there(printed, tmp_path):
    said = printed(tmp_path)
    assert f"{2 * len(KEYS)} of {2 * len(KEYS)} results are missing; table --run computes them" in said.err
    assert not re.search(r"\d\d\.\d", said.out)


def test_the_papers_numbers_stand_beside_ours(capsys, tmp_path):
    published = table2.paper_accuracies()
    fill(tmp_path, lambda key, dataset, part, _: published[key][None][dataset][part], names=["DTD"], data=tmp_path)
    given = ["table", "--out", str(tmp_path), "--datasets", "dtd", "--data", str(tmp_path), "--paper"]
    assert program.main(given) == 0
    shown = capsys.readouterr().out
    hand = published["zeroshot/hand"][None]["DTD"]["base"]
    assert f"{hand:.1f} ({hand:.1f})" in shown and "!)" not in shown
    assert program.main([*given, "--tasks", "dtd"]) == 2
    assert "the paper's numbers are of Table 1's tasks" in capsys.readouterr().err
    assert program.main(["table", "--paper", "--out", str(tmp_path)]) == 2
    assert "--paper: the paper has no numbers for the miniature" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--force", "--jobs 2"])
def test_options_that_play_no_part_without_run(option, printed, tmp_path):
    assert "plays no part without --run" in printed(tmp_path, *option.split(), code=2).err


@pytest.mark.parametrize("option", ["--absolute", "--paper"])
def test_options_that_play_no_part_in_csv(option, capsys, tmp_path):
    given = ["table", "--out", str(tmp_path), "--data", str(tmp_path), "--format", "csv", option]
    assert program.main(given) == 2 and f"{option}: plays no part in csv" in capsys.readouterr().err
