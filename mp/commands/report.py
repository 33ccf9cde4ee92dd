"""Accuracies as text: the averages first, then every dataset, with base, new and all classes."""
import statistics

PARTS = ("base", "new", "all")
Accuracies = dict[str, dict[str, float]]  # dataset -> part -> per cent


def with_averages(accuracies: Accuracies, roles: dict[str, str]) -> Accuracies:
    """Adds the averages over all, train and test datasets, as the paper's Table 2 has them."""
    groups = {"Average": list(accuracies)}
    for role in ("train", "test"):
        groups[f"Average ({role})"] = [name for name in accuracies if roles[name] == role]
    rows = {}
    for title, names in groups.items():
        if names:
            rows[title] = {part: statistics.fmean(accuracies[n][part] for n in names if part in accuracies[n])
                           for part in PARTS if any(part in accuracies[n] for n in names)}
    return rows | accuracies


def spread(values: list[float], sign: bool = False) -> str:
    """Mean, and ± standard deviation when there are several values.

    >>> spread([1.0, 3.0], sign=True)
    '+2.0±1.4'
    """
    text = f"{statistics.fmean(values):{'+' if sign else ''}.1f}"
    return text + (f"±{statistics.stdev(values):.1f}" if len(values) > 1 else "")


def table(roles: dict[str, str], handcrafted: Accuracies | None, columns: dict[str, list[Accuracies]]) -> str:
    """A row per average and dataset; `columns` holds one Accuracies per seed. Beside each column its gain
    over the handcrafted prompt, if that is given: the mean over seeds of the difference."""
    titles, cells = [], []  # a cell is a function (row, part) -> text
    base = with_averages(handcrafted, roles) if handcrafted else None
    if base:
        titles.append("handcrafted")
        cells.append(lambda row, part: f"{base[row][part]:.1f}")
    for title, seeds in columns.items():
        full = [with_averages(accuracies, roles) for accuracies in seeds]
        titles.append(title)
        cells.append(lambda row, part, full=full: spread([a[row][part] for a in full]))
        if base:
            titles.append("gain")
            cells.append(lambda row, part, full=full: spread([a[row][part] - base[row][part] for a in full], True))
    rows = list(with_averages(next(iter(columns.values()))[0] if columns else handcrafted, roles))

    def cell(get, row, part) -> str:
        try:
            return get(row, part)
        except KeyError:  # a dataset without test images of new classes, say
            return "-"

    body = [[row + ("*" if roles.get(row) == "train" else ""),
             *(cell(get, row, part) for get in cells for part in PARTS)] for row in rows]
    head = ["", *(part for _ in cells for part in PARTS)]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    for i, title in enumerate(titles):  # the first of a group's three columns makes room for a long title
        widths[1 + 3 * i] += max(0, len(title) - sum(widths[1 + 3 * i : 4 + 3 * i]) - 2)
    groups = [sum(widths[1 + 3 * i : 4 + 3 * i]) + 2 for i in range(len(titles))]
    lines = [(" " * widths[0] + "".join(f"   {title:^{width}}" for title, width in zip(titles, groups))).rstrip()]
    for line in [head, *body]:
        text = line[0].ljust(widths[0])
        for i in range(1, len(line)):
            text += " " * (3 if i % 3 == 1 else 1) + line[i].rjust(widths[i])
        lines.append(text)
    return "\n".join(lines) + "\n* meta-prompts are trained on this dataset's few-shot images"
