"""Accuracies as text: the averages first, then every dataset, with base, new and all classes."""
from mp.runtime.text import line_up, spread
from mp.settings import PARTS
from mp.table.averages import Accuracies, with_averages


def table(roles: dict[str, str], handcrafted: Accuracies | None, columns: dict[str, list[Accuracies]]) -> str:
    """A row per average and dataset; `columns` holds one Accuracies per seed. Beside each column its gain
    over the handcrafted prompt, if that is given: the mean over seeds of the difference."""
    base = with_averages(handcrafted, roles) if handcrafted else None
    groups = ["handcrafted"] if base else []
    seeds = {}
    for title, each in columns.items():
        seeds[title] = [with_averages(accuracies, roles) for accuracies in each]
        groups += [title, "gain"] if base else [title]
    rows = []
    for name in base or next(iter(seeds.values()))[0]:
        row = [name + "*" if roles.get(name) == "train" else name]
        if base:
            row += [shown([base], name, part) for part in PARTS]
        for each in seeds.values():
            row += [shown(each, name, part) for part in PARTS]
            if base:
                row += [shown(each, name, part, base) for part in PARTS]
        rows.append(row)
    head = ["", *(PARTS * len(groups))]
    lines = line_up([head, *rows], gap=1, groups=[(title, len(PARTS)) for title in groups])
    return lines + "\n* meta-prompts are trained on this dataset's few-shot images"


def shown(seeds: list[Accuracies], name: str, part: str, base: Accuracies | None = None) -> str:
    """A part's values, or gains over `base`; "-" where a dataset has no test images of it."""
    try:
        if base is None:
            return spread([accuracies[name][part] for accuracies in seeds])
        return spread([accuracies[name][part] - base[name][part] for accuracies in seeds], sign=True)
    except KeyError:
        return "-"
