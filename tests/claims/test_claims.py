"""run.py claims: what it prints against the results on disk, run again, and from two processes."""
import json
import os
import subprocess
import sys
from statistics import fmean

import pytest

from mp.claims import arms
from tests.conftest import ROOT

COMMAND = [sys.executable, "-m", "tests.claims.small_claims", "claims", "--method", "coop", "--seeds", "1", "2",
           "--datasets", "aircraft", "textures"]


def run(out, *more):
    return subprocess.run([*COMMAND, "--out", str(out), *more], cwd=ROOT, capture_output=True, text=True, check=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    out = tmp_path_factory.mktemp("claims")
    return out, run(out, "--jobs", "2")


def stamps(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".json", ".pt")}


def test_every_claim_has_its_table_and_its_sentence(once):
    out, ended = once
    text = ended.stdout
    for claim, title in arms.TITLES.items():
        assert f"({claim}) {title}: coop, seeds 1 2" in text
    assert text.count("On held-out datasets: all classes, ") == 2 and text.count("On held-out datasets: base classes, ") == 1 and "clipped in" in text and "numbers more than the prompt's 512" in text
    for row in ("first-order MAML", "8 inner steps", "plain multi-task training", "γ = 0.2, 24 α, over γ = inf, 24 α", "through it"):
        assert row in text
    said = (out / "mini" / "claims.log").read_text()
    assert "meta-training" in said and "Traceback" not in ended.stderr + said


def test_a_number_is_the_mean_of_the_differences_on_disk(once):
    out, ended = once

    def accuracy(path):
        return json.loads((out / "mini" / path).read_text())["accuracies"]

    line = next(line for line in ended.stdout.splitlines() if line.startswith("over handcrafted templates"))
    means = [float(cell.split("±")[0]) for cell in line.split()[4:]]
    expected = []
    for names in (["aircraft"], ["textures"]):
        for part in ("base", "new", "all"):
            gains = [accuracy(f"zeroshot/meta-coop/{name}-seed{seed}.json")[part] - accuracy(f"zeroshot/handcrafted/{name}.json")[part]
                     for name in names for seed in (1, 2)]
            expected.append(fmean(gains))
    assert line.split()[3] == "2" and [abs(a - b) < 0.051 for a, b in zip(means, expected, strict=True)] == [True] * 6


def test_again_it_reads_what_is_there_and_one_process_prints_the_same(once):
    out, ended = once
    before = stamps(out)
    again = run(out, "--jobs", "1")
    assert again.stdout == ended.stdout and stamps(out) == before


def test_a_claim_alone(once, tmp_path):
    out, ended = once
    before = stamps(out)
    alone = run(out, "--only", "c", "--jobs", "1").stdout
    assert alone.startswith("(c) ") and "(a)" not in alone and stamps(out) == before
    body = ended.stdout[ended.stdout.index("(c) ") :]
    assert alone == body


def test_one_seed_is_no_evidence(once):
    out, _ = once
    text = run(out, "--seeds", "1", "--jobs", "1").stdout
    assert "one seed, so nothing is shown" in text and "not shown" not in text and "better" not in text
