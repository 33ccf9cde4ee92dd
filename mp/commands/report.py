"""Accuracies as text: the averages first, then every dataset, with base, new and all classes."""
from mp.runtime.text import line_up, spread
from mp.settings import PARTS
from mp.table.averages import Accuracies, averaged, averaged_by_seed, numbers


def table(roles: dict[str, str], handcrafted: Accuracies, columns: dict[str, list[Accuracies]]) -> str:
    """A row per average and dataset; `columns` holds one Accuracies per seed. Beside each column its gain
    over the handcrafted prompt: the mean over seeds of the difference."""
    base = averaged_by_seed({None: handcrafted}, roles)
    groups = [("handcrafted", base, None)]  # a title, accuracies by seed, and over what they are shown as gains
    for title, each in columns.items():
        seeds = averaged_by_seed(dict(enumerate(each)), roles)
        groups += [(title, seeds, None), ("gain", seeds, base)]
    rows = [["", *(PARTS * len(groups))]]
    for name in [*averaged(roles), *roles]:
        row = [name + "*" if roles.get(name) == "train" else name]
        for _, seeds, over in groups:
            row += [spread(numbers(seeds, name, part, over), sign=over is not None) for part in PARTS]
        rows.append(row)
    lines = line_up(rows, gap=1, groups=[(title, len(PARTS)) for title, _, _ in groups])
    return lines + "\n* meta-prompts are trained on this dataset's few-shot images"
