"""What commands print: cells read from the text, and what they should show of accuracies."""
import re
from collections.abc import Callable
from statistics import fmean, stdev

from tests.walks import plain
from tests.walks.small import TRAINING, load

MEASURES = ("base", "new", "HM", "all")  # as printed
NUMBER = r"[+-]?\d+\.\d(?:±\d+\.\d)?|-"
Accuracies = dict[str, dict[str, float]]  # dataset -> part -> per cent


# Cells as they are printed

def rows(text: str, groups: int) -> dict[str, list[list[str]]]:
    """Read the table of zeroshot, meta and finetune: dataset or average -> for each group of columns, a cell for each
    of MEASURES."""
    table = {}
    for line in text.splitlines():
        words = line.split()
        count = len(MEASURES)
        cells = words[-count * groups :]
        name = " ".join(words[: -count * groups]).rstrip("*")
        if name and all(re.fullmatch(NUMBER, cell) for cell in cells):
            table[name] = [cells[i : i + count] for i in range(0, len(cells), count)]
    return table


def table_rows(text: str) -> dict[tuple[str, str], list[str]]:
    """Read Table 2: dataset or average, and measure -> its cells."""
    table, name = {}, ""
    for line in text.splitlines():
        match = re.match(r"(.*?)\s*\b(base|new|HM|all)\s{2,}(.*)$", line)
        if match:
            name = match[1].rstrip("*") or name
            table[name, match[2]] = match[3].split()
    return table


def claim_rows(text: str) -> list[dict[str, list[str]]]:
    """Read claims: for each table, a row's title -> how many seeds, and six cells."""
    tables: list[dict[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("points"):
            tables.append({})
        cells = rf"\s+({NUMBER})" * 6
        match = re.match(rf"(\S.*?)\s+(\d+){cells}(\s|$)", line)
        if match and tables:
            tables[-1][match[1]] = list(match.groups()[1:8])
    return tables


# What they should show

def shows(cell: str, values: list[float], signed: bool = False,
          half: Callable[[list[float]], float | None] = stdev) -> bool:
    """Whether a cell is the values' mean, rounded, and of several ± their standard deviation (or another `half`)."""
    mean, *spread = cell.split("±")
    good = (mean[0] in "+-") if signed else mean[0].isdigit()
    good = good and abs(float(mean) - fmean(values)) < 0.0501 and mean != "-0.0"
    if len(values) == 1 or half(values) is None:
        return good and not spread
    return good and len(spread) == 1 and abs(float(spread[0]) - half(values)) < 0.0501


def mean_of(accuracies: Accuracies, names: list[str], measure: str) -> float:
    """Return the mean over datasets; the harmonic mean is of the average base and the average new."""
    if measure == "HM":
        base, new = (mean_of(accuracies, names, part) for part in ("base", "new"))
        return 2 * base * new / (base + new)
    return fmean(accuracies[name][measure] for name in names)


def groups_of(names: list[str]) -> dict[str, list[str]]:
    """Return every row, in order, with the datasets that it is a mean of."""
    kinds = {"Average": names, "Average (train)": [name for name in names if name in TRAINING],
             "Average (test)": [name for name in names if name not in TRAINING]}
    return {row: group for row, group in kinds.items() if group} | {name: [name] for name in names}


def check_printed(text: str, columns: list[list[Accuracies]], names: list[str]) -> None:
    """Hold a table of accuracies to those of the handcrafted prompts and of `columns`, each with its seeds."""
    hand = {name: plain.accuracies(load(name).template, name) for name in names}
    shown, groups = rows(text, 1 + 2 * len(columns)), groups_of(names)
    assert list(shown) == list(groups)
    for row, group in groups.items():
        for k, part in enumerate(MEASURES):
            base = mean_of(hand, group, part)
            assert shows(shown[row][0][k], [base])
            for i, seeds in enumerate(columns):
                values = [mean_of(accuracies, group, part) for accuracies in seeds]
                gains = [value - base for value in values]
                assert shows(shown[row][2 * i + 1][k], values), (row, part)
                assert shows(shown[row][2 * i + 2][k], gains, signed=True), (row, part)
