"""Table 2 as one self-contained HTML page: the table coloured by gain, bars of gain, learning curves, settings."""
import json
import math
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from mp.learners import METHODS
from mp.runtime.errors import DAMAGE
from mp.settings import PARTS
from mp.store import results
from mp.table.columns import COLUMNS, Column
from mp.table.read import Cell, Table
from mp.table.render import Grid, points

STYLE = Path(__file__).with_name("page.css")
AXIS, HALF = 200, 66                         # of bars: where they begin, and how long they get
LEFT, BOTTOM, WIDE, HIGH = 34, 110, 266, 100   # of curves
Log = list[dict[str, float]]                 # a line per epoch


def html(table: Table, grid: Grid) -> str:
    """The page. Whatever came from a file or the command line is escaped."""
    title = "Table 2 on the " + ("embedded miniature suite" if table.suite == "mini" else "paper's datasets")
    gains = [bars(table, column) for column in COLUMNS if column.baseline]
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}</p>" for note in grid.notes),
            f'<div class="wide">{table_html(table, grid)}</div>',
            "<h2>Gain of meta-prompts over handcrafted ones, all classes, points</h2>",
            "<p>Upper group: datasets that meta-training uses; lower group: held out.</p>",
            f'<div class="panels">{"".join(gains)}</div>']
    logs = {method: read_logs(table, method) for method in METHODS}
    plots = [plots_of(METHODS[method].title, of_seeds) for method, of_seeds in logs.items() if of_seeds]
    if plots:
        body += ["<h2>Meta-training</h2>", f'<div class="panels">{"".join(plots)}</div>']
    body += listed("Settings", [escape(line) for line in settings_lines(table)])
    body += listed("Missing", [f"<code>{escape(command)}</code>" for command in table.missing])
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
            f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
            "<body>\n" + "\n".join(body) + "\n</body></html>\n")


def figure(content: str, height: int, about: str, caption: str) -> str:
    return (f'<figure><svg viewBox="0 0 310 {height}" role="img" aria-label="{about}">{content}</svg>'
            f"<figcaption>{caption}</figcaption></figure>")


def listed(title: str, items: list[str]) -> list[str]:
    """A heading and a list; nothing without items."""
    lines = "".join(f"<li>{item}</li>" for item in items)
    return [f"<h2>{title}</h2><ul>{lines}</ul>"] if items else []


def table_html(table: Table, grid: Grid) -> str:
    groups = "".join(f'<th colspan="{len(list(same))}">{group}</th>' for group, same in groupby(grid.groups))
    titles = "".join(f"<th>{title}</th>" for title in grid.titles)
    lines = [f'<tr><th colspan="2"></th>{groups}</tr><tr><th></th><th></th>{titles}</tr></thead><tbody>']
    for row, (name, part, *texts) in zip(table.rows, grid.rows):
        lines.append(f"<tr class=first><th>{escape(name)}</th>" if part == PARTS[0] else "<tr><th></th>")
        lines.append(f'<td class="part">{part}</td>')
        lines += [f'<td style="{shade(cell)}">{escape(text)}</td>' for cell, text in zip(row.cells, texts)]
        lines.append("</tr>")
    return f"<table><thead>{''.join(lines)}</tbody></table>"


def shade(cell: Cell) -> str:
    """Green for a gain, red for a loss, full at ten points."""
    if cell.gain is None or cell.gain.mean is None:
        return ""
    colour = "up" if cell.gain.mean > 0 else "down"
    return f"background: rgba(var(--{colour}), {min(1, abs(cell.gain.mean) / 10) * 0.55:.2f})"


def bars(table: Table, column: Column) -> str:
    """A column's gains on all classes as horizontal bars: the training datasets, a gap, then the others."""
    index, gains = COLUMNS.index(column), {}
    for row in table.rows:
        if row.part == "all" and row.name in table.roles:
            gains[row.name] = row.cells[index].gain.mean
    scale = max([1.0, *(abs(gain) for gain in gains.values() if gain is not None)])
    drawn, y = [], 4
    for role in ("train", "test"):
        names = [name for name in gains if table.roles[name] == role]
        drawn += [bar(name, gains[name], scale, y + 16 * number) for number, name in enumerate(names)]
        y += 16 * len(names) + 8
    drawn.append(f'<line class="axis" x1="{AXIS}" x2="{AXIS}" y1="0" y2="{y - 8}"/>')
    return figure("".join(drawn), y, "gain per dataset", f"{column.group} {column.title}")


def bar(name: str, gain: float | None, scale: float, y: int) -> str:
    short = name if len(name) <= 16 else name[:15] + "…"
    label = f'<text x="84" y="{y + 10}" text-anchor="end">{escape(short)}</text>'
    if gain is None:
        return label
    width = abs(gain) / scale * HALF
    x, end, way, anchor = AXIS, AXIS + width + 3, "up", "start"
    if gain < 0:
        x, end, way, anchor = AXIS - width, AXIS - width - 3, "down", "end"
    return (f'{label}<rect class="{way}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="12"/>'
            f'<text class="soft" x="{end:.1f}" y="{y + 10}" text-anchor="{anchor}">{points([gain], sign=True)}</text>')


def read_logs(table: Table, method: str) -> list[Log]:
    """Of the method's meta-trainings that are there, for the seeds in their order."""
    logs = [read_log(results.meta_prompt(table.out, method, seed).with_name("log.jsonl")) for seed in table.seeds]
    return [log for log in logs if log]


def read_log(path: Path) -> Log:
    """Nothing if it isn't there or not readable."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        log = [{k: float(line[k]) for k in ("query_loss", "grad_norm", "clipped_norm")} for line in lines]
    except DAMAGE:
        return []
    finite = all(math.isfinite(value) for line in log for value in line.values())
    return log if finite else []


def plots_of(title: str, logs: list[Log]) -> str:
    """Query loss, and the norm of G before and after clipping, over the epochs, a line per seed."""
    loss = plot(title, "query loss", logs, {"query_loss": "a"})
    norms = {"grad_norm": "b", "clipped_norm": "a"}
    return loss + plot(title, "‖G‖ before clipping (orange) and after (blue)", logs, norms)


def plot(title: str, what: str, logs: list[Log], styles: dict[str, str]) -> str:
    """`styles`: a log's key -> the class of its line."""
    lines = [line for log in logs for line in log]
    values = [line[key] for line in lines for key in styles]
    top, bottom, last = max(values), min(values), max(map(len, logs))
    step, scale = WIDE / max(1, last - 1), HIGH / ((top - bottom) or 1)
    drawn = ['<path class="axis" d="M34 8V112H302"/>']
    for log in logs:
        for key, style in styles.items():
            heights = [BOTTOM - scale * (line[key] - bottom) for line in log]
            corners = [f"{LEFT + step * i:.1f},{height:.1f}" for i, height in enumerate(heights)]
            drawn.append(f'<polyline class="{style}" points="{" ".join(corners)}"/>')
    for x, y, label in ((30, 14, f"{top:.3g}"), (30, 112, f"{bottom:.3g}"), (300, 124, f"epoch {last}")):
        drawn.append(f'<text class="soft" x="{x}" y="{y}" text-anchor="end">{label}</text>')
    return figure("".join(drawn), 128, what, f"{title}: {what}")


def settings_lines(table: Table) -> list[str]:
    """The settings of each method's meta-training and fine-tuning."""
    lines = []
    for method in METHODS:
        path = results.meta_prompt(table.out, method, table.seeds[0]).with_name("settings.json")
        try:
            kept = dict(json.loads(path.read_text(encoding="utf-8"))["identity"]["settings"])
            lines.append(f"meta-training: {in_words(kept)}")
        except DAMAGE:
            continue
    return lines + [f"fine-tuning: {in_words(kept)}" for kept in table.tuning.values()]


def in_words(settings: dict[str, Any]) -> str:
    words = []
    for name, value in settings.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        words.append(f"{name} {shown}")
    return ", ".join(words)
