"""Accuracies as text: the averages first, then every dataset, beside the handcrafted prompt's."""
from mp.report.averages import HM, MEASURES, Accuracies, averaged, averaged_by_seed, numbers
from mp.report.text import line_up, spread


def table(roles: dict[str, str], handcrafted: Accuracies, columns: dict[str, list[Accuracies]]) -> str:
    """Return a row per average and dataset. `columns` holds the Accuracies of every seed; beside each column stands its
    gain over the handcrafted prompt: the mean over seeds of the difference."""
    base = averaged_by_seed({None: handcrafted}, roles)
    groups = [("handcrafted", base, None)]  # a title, accuracies by seed, and over what they are shown as gains
    for title, each in columns.items():
        seeds = averaged_by_seed(dict(enumerate(each)), roles)
        groups += [(title, seeds, None), ("gain", seeds, base)]
    rows = [["", *(list(MEASURES.values()) * len(groups))]]
    for name in [*averaged(roles), *roles]:
        row = [name + "*" if roles.get(name) == "train" else name]
        for _, seeds, over in groups:
            row += [spread(numbers(seeds, name, key, over), sign=over is not None) for key in MEASURES]
        rows.append(row)
    lines = line_up(rows, gap=1, groups=[(title, len(MEASURES)) for title, _, _ in groups])
    return f"{lines}\n{HM}\n* meta-prompts are trained on this dataset's few-shot images"
