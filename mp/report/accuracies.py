"""Accuracies, their averages, which are those of the paper's Table 2, and gains; the table that most commands print."""
from statistics import fmean

from data.suite import AVERAGES
from mp.experiment.arms import HANDCRAFTED, Arm, BySeed, Results
from mp.report.text import line_up, spread
from mp.settings import PARTS, with_harmonic_mean

MEASURES = {"base": "base", "new": "new", "harmonic_mean": "HM", "all": "all"}  # with their titles, in a table's order
HM = "HM: the harmonic mean of base and new; an average's is that of the average base and the average new"


def table(roles: dict[str, str], results: Results, columns: dict[str, Arm]) -> str:
    """Return a row for each average and dataset. `columns`: arms by their titles; beside each stands its gain over the
    handcrafted prompt, whose results are there, too: the mean over seeds of the difference."""
    baseline = with_averages(results.by_seed(HANDCRAFTED), roles)
    groups = [("handcrafted", baseline, None)]  # a title, accuracies, and those over which they are shown as gains
    for title, arm in columns.items():
        accuracies = with_averages(results.by_seed(arm), roles)
        groups += [(title, accuracies, None), ("gain", accuracies, baseline)]
    lines = [["", *(list(MEASURES.values()) * len(groups))]]
    for row in datasets_by_row(roles):
        cells = [starred(row, roles)]
        for _, accuracies, over in groups:
            cells += [spread(numbers(accuracies, row, measure, over), sign=over is not None) for measure in MEASURES]
        lines.append(cells)
    text = line_up(lines, gap=1, groups=[(title, len(MEASURES)) for title, _, _ in groups])
    return f"{text}\n{HM}\n* meta-prompts are trained on this dataset's few-shot images"


def datasets_by_row(roles: dict[str, str]) -> dict[str, list[str]]:
    """Return the rows of a table, each with the datasets that it is a mean over: three averages, then every dataset by
    itself. `roles`: dataset -> train or test; an average without datasets has no row."""
    groups = [list(roles)]
    for role in ("train", "test"):
        groups.append([dataset for dataset in roles if roles[dataset] == role])
    averages = {title: datasets for title, datasets in zip(AVERAGES, groups) if datasets}
    return averages | {dataset: [dataset] for dataset in roles}


def starred(row: str, roles: dict[str, str]) -> str:
    """Return a row's name, with a star after a dataset that meta-training uses."""
    return row + "*" if roles.get(row) == "train" else row


def with_averages(accuracies: BySeed, roles: dict[str, str]) -> BySeed:
    """Return the accuracies of every row whose datasets are all there, with harmonic means.

    An average of a part is over the datasets that have it; its harmonic mean is formed of the averages.
    """
    rows: BySeed = {seed: {} for seed in accuracies}
    for seed, of_datasets in accuracies.items():
        for row, datasets in datasets_by_row(roles).items():
            if all(dataset in of_datasets for dataset in datasets):
                means = {}
                for part in PARTS:
                    if values := [of_datasets[dataset][part] for dataset in datasets if part in of_datasets[dataset]]:
                        means[part] = fmean(values)
                rows[seed][row] = with_harmonic_mean(means)
    return rows


def numbers(accuracies: BySeed, row: str, measure: str, baseline: BySeed | None = None) -> list[float]:
    """Return the numbers of a cell, one for each seed that has it: per cent, or points over the baseline, which has the
    same seeds or, where it is words, none."""
    values = []
    for seed, rows in accuracies.items():
        value, start = rows.get(row, {}).get(measure), 0.0
        if baseline is not None:
            start = baseline.get(seed, baseline.get(None, {})).get(row, {}).get(measure)
        if value is not None and start is not None:
            values.append(value - start)
    return values
