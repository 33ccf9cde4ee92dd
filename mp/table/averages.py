"""Accuracies of datasets, their gains, and the averages of the paper's Table 2: over all datasets, those that
meta-training uses, and those held out."""
from statistics import fmean

from mp.settings import PARTS

Accuracies = dict[str, dict[str, float]]  # dataset or average -> part -> per cent, or points of gain


def averaged(roles: dict[str, str]) -> dict[str, list[str]]:
    """The rows of averages, each with its datasets. `roles`: dataset -> train or test."""
    groups = {"Average": list(roles)}
    for role in ("train", "test"):
        groups[f"Average ({role})"] = [name for name, its_role in roles.items() if its_role == role]
    return {title: names for title, names in groups.items() if names}


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


def gains(accuracies: Accuracies, base: Accuracies) -> Accuracies:
    """The difference, where both have a number."""
    found = {}
    for name, parts in accuracies.items():
        other = base.get(name, {})
        found[name] = {part: value - other[part] for part, value in parts.items() if part in other}
    return found


def numbers(seeds: list[Accuracies], name: str, part: str) -> list[float]:
    """One cell's, of every seed that has it."""
    return [one[name][part] for one in seeds if part in one.get(name, {})]
