"""The averages of the paper's Table 2: over all datasets, those that meta-training uses, and those held out."""
from statistics import fmean

from mp.settings import PARTS

Accuracies = dict[str, dict[str, float]]  # dataset -> part -> per cent


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
            rows[title] = average([accuracies[name] for name in names])
    return rows | accuracies


def average(datasets: list[dict[str, float]]) -> dict[str, float]:
    found = {}
    for part in PARTS:
        if values := [accuracies[part] for accuracies in datasets if part in accuracies]:
            found[part] = fmean(values)
    return found
