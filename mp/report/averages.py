"""Accuracies and gains, and the averages of the paper's Table 2: over all datasets, those that meta-training uses, and
those held out."""
from statistics import fmean

from data.suite import AVERAGES
from mp.settings import PARTS, with_harmonic_mean

Accuracies = dict[str, dict[str, float]]  # dataset or average -> measure -> per cent
BySeed = dict[int | None, Accuracies]     # None: of words, which have no seed
MEASURES = {"base": "base", "new": "new", "harmonic_mean": "HM", "all": "all"}  # with their titles, in a table's order
HM = "HM: the harmonic mean of base and new; an average's is that of the average base and the average new"


def averaged(roles: dict[str, str]) -> dict[str, list[str]]:
    """Return the rows of averages, each with its datasets. `roles`: dataset -> train or test."""
    groups = [list(roles)]
    for role in ("train", "test"):
        groups.append([name for name, its_role in roles.items() if its_role == role])
    return {title: names for title, names in zip(AVERAGES, groups) if names}


def with_averages(accuracies: Accuracies, roles: dict[str, str]) -> Accuracies:
    """Return the averages, each if all of its datasets are there, then the datasets, all with their harmonic means.

    An average of a part is over the datasets that have it; its harmonic mean is formed of the averages.
    """
    rows: Accuracies = {}
    for title, names in averaged(roles).items():
        if all(name in accuracies for name in names):
            rows[title] = {}
            for part in PARTS:
                if values := [accuracies[name][part] for name in names if part in accuracies[name]]:
                    rows[title][part] = fmean(values)
    return {name: with_harmonic_mean(row) for name, row in (rows | accuracies).items()}


def averaged_by_seed(seeds: BySeed, roles: dict[str, str]) -> BySeed:
    """Return the same with the averages of every seed."""
    return {seed: with_averages(accuracies, roles) for seed, accuracies in seeds.items()}


def numbers(seeds: BySeed, name: str, measure: str, base: BySeed | None = None) -> list[float]:
    """Return a cell's numbers, of every seed that has it: values, or gains over `base`, seed by seed or over what has
    no seed."""
    found = []
    for seed, accuracies in seeds.items():
        value = accuracies.get(name, {}).get(measure)
        other = 0.0
        if base is not None:
            other = base.get(seed, base.get(None, {})).get(name, {}).get(measure)
        if value is not None and other is not None:
            found.append(value - other)
    return found
