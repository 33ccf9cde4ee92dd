"""Averages and harmonic means against published tables and by hand; accuracies as text."""
import doctest
from pathlib import Path

import pytest

from mp import settings
from mp.experiment.arms import HANDCRAFTED, Arm, Job, Results
from mp.report import accuracies
from mp.report.accuracies import numbers, with_averages
from mp.report.table2 import paper_accuracies
from mp.settings import with_harmonic_mean
from mp.store.cells import Result
from tests.report.tables import PAPER


# Averages over the same eleven datasets, as the tables of MaPLe's and PromptSRC's papers and code print them.
@pytest.mark.parametrize("base, new, printed", [
    (69.34, 74.22, 71.70), (82.69, 63.22, 71.66), (80.47, 71.69, 75.83), (82.28, 75.14, 78.55), (84.26, 76.10, 79.97)],
    ids=["CLIP", "CoOp", "CoCoOp", "MaPLe", "PromptSRC"])
def test_harmonic_means_that_others_printed(base, new, printed):
    assert abs(with_harmonic_mean({"base": base, "new": new})["harmonic_mean"] - printed) < 0.0051


def test_a_harmonic_mean_needs_both_parts():
    assert doctest.testmod(settings) == (0, 1)
    assert with_harmonic_mean({"base": 1.0, "all": 1.0}) == {"base": 1.0, "all": 1.0}
    assert with_harmonic_mean({"base": 0.0, "new": 0.0})["harmonic_mean"] == 0.0


def test_the_papers_harmonic_means():
    """By hand from the averages of its Table 2; a mean of the datasets' harmonic means would be another number."""
    papers = {key: with_averages(by_seed, PAPER.roles)[None]["Average"] for key, by_seed in paper_accuracies().items()}
    assert {key: round(row["harmonic_mean"], 2) for key, row in papers.items()} == {
        "zeroshot/hand": 71.71, "zeroshot/mp-coop": 73.22, "zeroshot/mp-cocoop": 73.32, "zeroshot/mp-promptsrc": 75.76,
        "finetune/coop/hand": 80.91, "finetune/coop/mp": 71.08, "finetune/cocoop/hand": 75.29, "finetune/cocoop/mp": 75.31,
        "finetune/promptsrc/hand": 79.47, "finetune/promptsrc/mp": 78.76}


def test_gains_are_seed_by_seed_or_over_what_has_no_seed():
    def of(**seeds):
        return {int(seed[1:]) if seed != "none" else None: {"pets": {"new": value}} for seed, value in seeds.items()}

    assert numbers(of(s1=70.0, s2=60.0), "pets", "new", of(s2=58.0, s3=1.0)) == [2.0]
    assert numbers(of(s1=70.0, s2=60.0), "pets", "new", of(none=58.0)) == [12.0, 2.0]
    assert numbers(of(s1=70.0), "pets", "base", of(none=58.0)) == numbers(of(s1=70.0), "pets", "new", {}) == []


def test_accuracies_as_text():
    roles = {"one": "train", "two": "test"}
    learnt, by_job = Arm("coop", learnt=()), {}

    def add(arm, seed, dataset, **parts):
        by_job[Job(arm, seed, dataset)] = Result(Path("x.json"), {"accuracies": with_harmonic_mean(parts)})

    add(HANDCRAFTED, None, "one", base=50.0, new=40.0, all=30.0)
    add(HANDCRAFTED, None, "two", base=70.0, all=50.0)
    for seed, base in ((1, 70.0), (2, 80.0)):
        add(learnt, seed, "one", base=60.0, new=50.0, all=40.0)
        add(learnt, seed, "two", base=base, all=60.0)
        add(learnt._replace(tuned=()), seed, "two", base=1.0, all=1.0)  # another arm's
    shown = accuracies.table(roles, Results(by_job), {"x": learnt})
    lines = {line.split("  ")[0].strip(): line.split() for line in shown.splitlines()}
    assert shown.splitlines()[1].split() == ["base", "new", "HM", "all"] * 3
    # Of base 65 and 70 with new 50: 56.522 and 58.333; of base 60 with new 40: 48.
    assert lines["Average"][1:] == ["60.0", "40.0", "48.0", "40.0", "67.5±3.5", "50.0±0.0", "57.4±1.3", "50.0±0.0",
                                    "+7.5±3.5", "+10.0±0.0", "+9.4±1.3", "+10.0±0.0"]
    assert lines["two"][1:5] == ["70.0", "-", "-", "50.0"] and lines["one*"][3] == "44.4"
    assert shown.splitlines()[-2] == ("HM: the harmonic mean of base and new; an average's is that of the average base and "
                                      "the average new")
