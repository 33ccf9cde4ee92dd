"""Text tables and the numbers in them."""
import statistics
from collections.abc import Sequence

from mp.runtime.errors import printable


def spread(values: list[float], sign: bool = False) -> str:
    """Return the mean, and ± standard deviation when there are several values; "-" without any. Zero has no minus.

    >>> spread([1.0, 3.0], sign=True)
    '+2.0±1.4'
    """
    if not values:
        return "-"
    mean = round(statistics.fmean(values), 1) + 0.0  # -0.0 becomes 0.0
    text = format(mean, "+.1f" if sign else ".1f")
    return f"{text}±{statistics.stdev(values):.1f}" if len(values) > 1 else text


def line_up(rows: Sequence[Sequence[str]], left: int = 1, gap: int = 2, groups: Sequence[tuple[str, int]] = ()) -> str:
    """Return rows of cells as lines of text, without a newline at the end; an empty row is an empty line. What can't be
    printed, as in names of files, is written as an escape.

    The first `left` columns are flush left, the others flush right, `gap` spaces apart. `groups`: titles in a line
    above, each with how many of the columns after the left ones it stands over. Two more spaces set a group apart, and
    its first column makes room for a title that is wider than all of them.

    >>> rows = [["", "base", "new", "base"], ["pets", "91.2", "97.8", "+0.4"]]
    >>> print(line_up(rows, gap=1, groups=[("coop", 2), ("gain", 1)]))
             coop      gain
           base  new   base
    pets   91.2 97.8   +0.4
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    groups = [(printable(title), size) for title, size in groups]
    widths = [max(map(len, column)) for column in zip(*filter(None, rows))]
    gaps = [0] + [gap] * (len(widths) - 1)
    titles = " " * (sum(widths[:left]) + gap * (left - 1))
    column = left
    for title, size in groups:
        gaps[column] = gap + 2
        room = sum(widths[column : column + size]) + gap * (size - 1)
        widths[column] += max(0, len(title) - room)
        titles += " " * (gap + 2) + f"{title:^{room}}"
        column += size
    lines = [titles] if groups else []
    for row in rows:
        text = ""
        for i, cell in enumerate(row):
            aligned = cell.ljust(widths[i]) if i < left else cell.rjust(widths[i])
            text += " " * gaps[i] + aligned
        lines.append(text)
    return "\n".join(line.rstrip() for line in lines)
