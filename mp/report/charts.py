"""The page's drawings, as SVG: bars of gain, and curves of meta-training on axes with round numbers."""
import math
from html import escape
from statistics import fmean

from mp.learners import METHODS
from mp.report.table2 import Column, Log, Table
from mp.report.text import spread

WIDTH = 310
AXIS, HALF = 202, 66                        # of bars: where they begin, and how long they get
LEFT, RIGHT, TOP, BOTTOM = 42, 300, 22, 150   # of curves: where their axes end


def figure(content: str, height: int, about: str, caption: str) -> str:
    return (f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{about}">{content}</svg>'
            f"<figcaption>{caption}</figcaption></figure>")


def bars(table: Table, column: Column) -> str:
    """Draw a column's gains on all classes as horizontal bars: the training datasets, a gap, then the others."""
    roles = table.suite.roles
    gains = {}
    for dataset in roles:
        of_seeds = column.numbers(table.ours, dataset, "all", gain=True)
        gains[dataset] = fmean(of_seeds) if of_seeds else None
    scale = max([1.0, *(abs(gain) for gain in gains.values() if gain is not None)])
    drawing, y = "", 4
    for role in ("train", "test"):
        for dataset, gain in gains.items():
            if roles[dataset] == role:
                drawing += bar(dataset, gain, scale, y)
                y += 16
        y += 8
    drawing += f'<line class="axis" x1="{AXIS}" x2="{AXIS}" y1="0" y2="{y - 8}"/>'
    return figure(drawing, y, "gain per dataset", f"{column.group} {column.title}")


def bar(name: str, gain: float | None, scale: float, y: int) -> str:
    short = name if len(name) <= 14 else name[:13] + "…"
    label = f'<text x="90" y="{y + 10}" text-anchor="end">{escape(short)}</text>'
    if gain is None:
        return label
    width = abs(gain) / scale * HALF
    x, end, way, anchor = AXIS, AXIS + width + 3, "up", "start"
    if gain < 0:
        x, end, way, anchor = AXIS - width, AXIS - width - 3, "down", "end"
    return (f'{label}<rect class="{way}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="12"/>'
            f'<text class="soft" x="{end:.1f}" y="{y + 10}" text-anchor="{anchor}">{spread([gain], sign=True)}</text>')


def curves(method: str, logs: list[Log]) -> str:
    """Draw query loss, and the norm of G before and after clipping, over the epochs, a line for each log."""
    logs = [log for log in logs if log]  # one that was damaged is empty
    if not logs:
        return ""
    title = METHODS[method].title
    loss = plot(title, "query loss", "mean over the tasks, a line per seed", logs, {"query_loss": "a"})
    norms = {"grad_norm": "b", "clipped_norm": "a"}
    norm = plot(title, "‖G‖", "before clipping (orange) and after (blue)", logs, norms)
    return f"<section><h3>{title}</h3>{loss}{norm}</section>"


def plot(title: str, label: str, caption: str, logs: list[Log], styles: dict[str, str]) -> str:
    """Draw numbers of the logs over the epochs. `label`: of the upright axis; `styles`: a log's key -> the class of its
    line."""
    lines = []
    for log in logs:
        for key, style in styles.items():
            lines.append((style, [line[key] for line in log]))
    xs = ticks(0, max(map(len, logs)), least=1)
    ys = ticks(min(min(values) for _, values in lines), max(max(values) for _, values in lines))
    drawn = [axes(xs, ys, label)]
    for style, values in lines:
        corners = []
        for epoch, value in enumerate(values, start=1):
            corners.append(f"{place(epoch, xs, LEFT, RIGHT):.1f},{place(value, ys, BOTTOM, TOP):.1f}")
        corners.append(corners[-1])  # so that one epoch is a dot
        drawn.append(f'<polyline class="{style}" points="{" ".join(corners)}"/>')
    return figure("".join(drawn), BOTTOM + 32, f"{title}: {label}", caption)


def axes(xs: list[float], ys: list[float], label: str) -> str:
    """Draw a grid through the ticks, and their numbers."""
    grid, texts = "", f'<text x="0" y="10">{label}</text>'
    for x in xs:
        at = f"{place(x, xs, LEFT, RIGHT):.1f}"
        grid += f"M{at} {TOP}V{BOTTOM}"
        texts += f'<text class="soft" x="{at}" y="{BOTTOM + 14}" text-anchor="middle">{x:g}</text>'
    for y in ys:
        at = place(y, ys, BOTTOM, TOP)
        grid += f"M{LEFT} {at:.1f}H{RIGHT}"
        texts += f'<text class="soft" x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>'
    texts += f'<text x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 28}" text-anchor="middle">epoch</text>'
    return f'<path class="axis" d="{grid}"/>{texts}'


def place(value: float, marks: list[float], start: float, end: float) -> float:
    """Return where a value lies on an axis from `start` to `end` with these ticks."""
    return start + (end - start) * (value - marks[0]) / (marks[-1] - marks[0])


def ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Return three to eight round numbers, evenly spaced, from at most `low` to at least `high`; `least` apart.

    >>> ticks(0.7, 2.9)
    [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    """
    flat = max(0.01 * max(abs(low), abs(high)), 1e-6)  # what varies less has no scale of its own
    if high - low < flat:
        low, high = low - flat, high + flat
    rough = max((high - low) / 5, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough)
    return [step * number for number in range(math.floor(low / step), math.ceil(high / step) + 1)]
