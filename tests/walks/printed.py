"""What meta, zeroshot and finetune should print, from accuracies."""
from statistics import fmean, stdev

from tests.walks import outputs, plain
from tests.walks.outputs import MEASURES
from tests.walks.small import TRAINING, load


def shows(cell, values, signed=False, half=stdev):
    """Whether it is their mean, rounded, and where there are several ± their standard deviation (or another `half`)."""
    mean, *spread = cell.split("±")
    good = (mean[0] in "+-") if signed else mean[0].isdigit()
    good = good and abs(float(mean) - fmean(values)) < 0.0501 and mean not in ("-0.0",)
    if len(values) == 1 or half(values) is None:
        return good and not spread
    return good and len(spread) == 1 and abs(float(spread[0]) - half(values)) < 0.0501


def mean_of(accuracies, names, measure):
    """Over datasets; the harmonic mean is of the average base and the average new."""
    if measure == "HM":
        base, new = (mean_of(accuracies, names, part) for part in ("base", "new"))
        return 2 * base * new / (base + new)
    return fmean(accuracies[name][measure] for name in names)


def groups_of(names, training=TRAINING):
    """Every row, in order, with the datasets that it is a mean of."""
    kinds = {"Average": names, "Average (train)": [name for name in names if name in training],
             "Average (test)": [name for name in names if name not in training]}
    return {row: those for row, those in kinds.items() if those} | {name: [name] for name in names}


def check_printed(text, columns, names):
    """`columns`: for each, in order, the accuracies of every seed, by dataset and part."""
    hand = {name: plain.accuracies(load(name).template, name) for name in names}
    shown, wanted = outputs.rows(text, 1 + 2 * len(columns)), groups_of(names)
    assert list(shown) == list(wanted)
    for row, those in wanted.items():
        for k, part in enumerate(MEASURES):
            base = mean_of(hand, those, part)
            assert shows(shown[row][0][k], [base])
            for i, seeds in enumerate(columns):
                values = [mean_of(accuracies, those, part) for accuracies in seeds]
                assert shows(shown[row][2 * i + 1][k], values), (row, part)
                assert shows(shown[row][2 * i + 2][k], [value - base for value in values], signed=True), (row, part)
