"""Student's t against printed tables; what a planted effect, and none, are said to be."""
import math

import numpy as np
import pytest

from mp.experiment.arms import Arm
from mp.report import findings
from mp.report.claims import Comparison
from mp.report.findings import Interval, interval, t_quantile
from mp.settings import PARTS

OURS, THEIRS = Arm(words="ours {}"), Arm(words="theirs {}")
ROLES = {"a": "train", "b": "train", "c": "test", "d": "test", "e": "test"}


def test_quantiles_are_those_of_printed_tables():
    for degrees, printed in [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (6, 2.447), (9, 2.262), (10, 2.228),
                             (29, 2.045), (30, 2.042), (60, 2.000), (120, 1.980)]:
        assert abs(t_quantile(degrees) - printed) < 5.1e-4


def test_an_interval_by_hand():
    found = interval([1.0, 2.0, 6.0])  # mean 3, standard deviation √7
    assert found.mean == 3 and found.count == 3 and abs(found.half - 4.3027 * math.sqrt(7 / 3)) < 1e-3
    assert found.verdict() == "not shown" and found.text() == "+3.0±6.6" and found.ends() == "-3.6 to +9.6"
    assert interval([2.0]) == Interval(2.0, None, 1) and interval([]) is None
    assert interval([-0.01, -0.03]).text().startswith("+0.0")


def test_equal_differences_and_one_seed_have_no_interval():
    assert interval([0.7, 61.0 - 60.3, 61.0 - 60.3]) == Interval(pytest.approx(0.7), None, 3)  # not equal to the bit
    two = {seed: {name: dict.fromkeys(PARTS, 60.0) for name in ROLES} for seed in (1, 2)}
    ahead = {seed: {name: dict.fromkeys(PARTS, 60.7) for name in ROLES} for seed in (1, 2)}
    rows = compared(ahead, two)
    assert "the same for every seed, so without an interval: ours over theirs (+0.7)." in findings.sentence(rows)
    assert "±" not in findings.table(rows, {})
    rows = compared({1: ahead[1]}, {1: two[1]})
    assert "one seed, so nothing is shown" in findings.sentence(rows) and "±" not in findings.table(rows, {})


def accuracies(rng, seeds, shift=0.0):
    """Return those of both arms: differences between datasets and seeds are large, the noise of a seed's mean is 0.5."""
    ours, theirs = {}, {}
    for seed in range(seeds):
        ours[seed], theirs[seed] = {}, {}
        of_seed = {part: rng.normal(0, 0.5) for part in PARTS}
        for name in ROLES:
            base = {part: rng.uniform(40, 80) for part in PARTS}
            theirs[seed][name] = base
            ours[seed][name] = {part: base[part] + shift + of_seed[part] for part in PARTS}
    return ours, theirs


def compared(ours, theirs):
    both = {OURS: ours, THEIRS: theirs}
    return findings.compare([Comparison("ours over theirs", OURS, THEIRS)], both.get, ROLES)


def test_a_planted_effect_is_found_and_where_there_is_none_none_is():
    rng = np.random.default_rng(1)
    said = findings.sentence(compared(*accuracies(rng, 5, shift=1.0)))
    assert said.startswith("On held-out datasets: all classes, better: ours over theirs (+0.")
    assert "worse: ours over theirs (-" in findings.sentence(compared(*accuracies(rng, 5, shift=-1.0)))
    assert "not shown: ours over theirs (-" in findings.sentence(compared(*accuracies(rng, 5)))


def test_how_often_it_is_wrong_is_what_it_says():
    """Of 1,000 intervals of noise 5% leave zero out, and 95% of such counts lie within 36 to 64."""
    rng, shown = np.random.default_rng(2), 0
    for _ in range(1_000):
        shown += interval(rng.normal(0, 0.5, 3).tolist()).verdict() in ("better", "worse")
    assert 30 < shown < 72


def test_pairs_are_by_seed_and_dataset():
    """Means over datasets first, then the difference of each seed, against numpy."""
    rng = np.random.default_rng(3)
    ours, theirs = accuracies(rng, 4, 0.3)
    (_, cells), = compared(ours, theirs)
    for role, name in (("train", "Average (train)"), ("test", "Average (test)")):
        chosen = [dataset for dataset in ROLES if ROLES[dataset] == role]
        for part in PARTS:
            differences = [np.mean([ours[s][d][part] for d in chosen]) - np.mean([theirs[s][d][part] for d in chosen]) for s in range(4)]
            assert abs(cells[name, part].mean - np.mean(differences)) < 1e-12
            assert abs(cells[name, part].half - t_quantile(3) * np.std(differences, ddof=1) / 2) < 1e-12
    words = {None: theirs[0]}  # has no seed: stands against each
    (_, cells), = compared(ours, words)
    assert cells["Average (test)", "new"].count == 4


def test_the_best_wording_is_the_first_of_the_highest_means():
    def flat(*values):
        return {name: {"base": 100 - value, "new": 100 - value, "all": value} for name, value in zip("ab", values)}

    assert findings.best_wording({"a {}": flat(60, 61), "b {}": flat(52, 70), "c {}": flat(70, 52)}) == "b {}"
