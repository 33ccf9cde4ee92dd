"""Accuracies and gains, and the averages of the paper's Table 2: over all datasets, those that meta-training uses, and
those held out."""
from statistics import fmean

from data.suite import AVERAGES
from mp.settings import PARTS

Accuracies = dict[str, dict[str, float]]  # dataset or average -> part -> per cent
BySeed = dict[int | None, Accuracies]     # None: of words, which have no seed


def averaged(roles: dict[str, str]) -> dict[str, list[str]]:
    """The rows of averages, each with its datasets. `roles`: dataset -> train or test."""
    groups = [list(roles)]
    for role in ("train", "test"):
        groups.append([name for name, its_role in roles.items() if its_role == role])
    return {title: names for title, names in zip(AVERAGES, groups) if names}


def with_averages(accuracies: Accuracies, roles: dict[str, str]) -> Accuracies:
    """The averages first, each if all of its datasets are there; of a part, over the datasets that have it."""
    rows: Accuracies = {}
    for title, names in averaged(roles).items():
        if all(name in accuracies for name in names):
            rows[title] = {}
            for part in PARTS:
                if values := [accuracies[name][part] for name in names if part in accuracies[name]]:
                    rows[title][part] = fmean(values)
    return rows | accuracies


def averaged_by_seed(seeds: BySeed, roles: dict[str, str]) -> BySeed:
    return {seed: with_averages(accuracies, roles) for seed, accuracies in seeds.items()}


def numbers(seeds: BySeed, name: str, part: str, base: BySeed | None = None) -> list[float]:
    """One cell's, of every seed that has it: values, or gains over `base`, seed by seed or over what has no seed."""
    found = []
    for seed, accuracies in seeds.items():
        value = accuracies.get(name, {}).get(part)
        other = 0.0
        if base is not None:
            other = base.get(seed, base.get(None, {})).get(name, {}).get(part)
        if value is not None and other is not None:
            found.append(value - other)
    return found
