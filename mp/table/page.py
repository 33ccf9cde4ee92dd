"""Table 2 as one self-contained HTML page: the table coloured by gain, bars of gain, learning curves, settings."""
import json
import math
from argparse import Namespace
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import fmean

from mp.runtime import files
from mp.table import columns, render
from mp.runtime.errors import DAMAGE, UserError

STYLE = Path(__file__).with_name("page.css")


def html(table: columns.Table, args: Namespace) -> str:
    """The page. Whatever came from a file or the command line is escaped."""
    logs = {}
    for method in columns.METHODS:
        for seed in table.seeds:
            if log := read_log(table, method, seed):
                logs.setdefault(method, {})[seed] = log
    title = "Table 2 on the " + ("embedded miniature suite" if table.suite == "mini" else "paper's datasets")
    notes = render.notes(table, args.absolute, args.paper)
    gains = "".join(bars(table, i) for i, column in enumerate(columns.COLUMNS) if column.baseline())
    parts = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}</p>" for note in notes),
             f'<div class="wide">{table_html(table, args)}</div>',
             "<h2>Gain of meta-prompts over handcrafted ones, all classes, points</h2>",
             "<p>Upper group: datasets that meta-training uses; lower group: held out.</p>",
             f'<div class="panels">{gains}</div>']
    if logs:
        panels = [curves(columns.METHODS[method], by_seed) for method, by_seed in logs.items()]
        parts += ["<h2>Meta-training</h2>", f'<div class="panels">{"".join(panels)}</div>']
    parts.append(settings_html(table, list(logs)))
    if table.missing:
        commands = "".join(f"<li><code>{escape(command)}</code></li>" for command in table.missing)
        parts.append(f"<h2>Missing</h2><ul>{commands}</ul>")
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
            f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n")


def read_log(table: columns.Table, method: str, seed: int) -> list[dict]:
    """A meta-training's log; nothing if it isn't there or not readable."""
    path = table.out / "meta" / f"{method}-seed{seed}" / "log.jsonl"
    try:
        log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        log = [{k: float(line[k]) for k in ("query_loss", "grad_norm", "clipped_norm")} for line in log]
        return log if all(math.isfinite(value) for line in log for value in line.values()) else []
    except DAMAGE:
        return []


def table_html(table: columns.Table, args: Namespace) -> str:
    spans = [("", 2), ("zero-shot", 4), ("fine-tuned", 6)]
    groups = "".join(f'<th colspan="{n}">{name}</th>' for name, n in spans)
    titles = "".join(f"<th>{column.title}</th>" for column in columns.COLUMNS)
    head = f"<tr>{groups}</tr><tr><th></th><th></th>{titles}</tr>"
    body = []
    for row in table.rows:
        first = row.part == "base"
        name = escape(row.name) + ("*" if row.name in table.training else "")
        texts = [escape(render.cell_text(cell, args.absolute, args.paper)) for cell in row.cells]
        cells = "".join(f'<td style="{shade(cell)}">{text}</td>' for cell, text in zip(row.cells, texts))
        body.append(f'<tr{" class=first" if first else ""}><th>{name if first else ""}</th>'
                    f'<td class="part">{row.part}</td>{cells}</tr>')
    return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"


def shade(cell: columns.Cell) -> str:
    """Green for a gain, red for a loss, full at ten points."""
    if not cell.gains:
        return ""
    gain = fmean(cell.gains)
    return f"background: rgba(var(--{'up' if gain > 0 else 'down'}), {min(1, abs(gain) / 10) * 0.55:.2f})"


def bars(table: columns.Table, index: int) -> str:
    """One meta-prompt column's gains as horizontal bars, a dataset each."""
    column = columns.COLUMNS[index]
    rows = [row for row in table.rows if row.part == "all" and row.name not in columns.GROUPS]
    rows.sort(key=lambda row: row.name not in table.training)  # stable: training datasets first
    gains = [fmean(row.cells[index].gains) if row.cells[index].gains else None for row in rows]
    scale = max([abs(g) for g in gains if g is not None] + [1])
    lines, y, zero, half = [], 4, 200, 66
    for _, group in groupby(zip(rows, gains), key=lambda pair: pair[0].name in table.training):
        for row, gain in group:
            short = row.name if len(row.name) <= 16 else row.name[:15] + "…"
            lines.append(f'<text x="84" y="{y + 10}" text-anchor="end">{escape(short)}</text>')
            if gain is not None:
                width = abs(gain) / scale * half
                x, end, way, anchor = ((zero, zero + width + 3, "up", "start") if gain >= 0
                                       else (zero - width, zero - width - 3, "down", "end"))
                lines.append(f'<rect class="{way}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="12"/>'
                             f'<text class="soft" x="{end:.1f}" y="{y + 10}" text-anchor="{anchor}">{gain:+.1f}</text>')
            y += 16
        y += 8
    axis = f'<line class="axis" x1="{zero}" x2="{zero}" y1="0" y2="{y - 8}"/>'
    how = "fine-tuned" if column.tuned else "zero-shot"
    return (f'<figure><svg viewBox="0 0 310 {y}" role="img" aria-label="gain per dataset">{axis}{"".join(lines)}</svg>'
            f"<figcaption>{how} {column.title}</figcaption></figure>")


def curves(title: str, logs: dict[int, list[dict]]) -> str:
    """Query loss, and the norm of G before and after clipping, over the epochs, a line per seed."""
    figures = []
    for what, lines in (("query loss", (("query_loss", "a"),)),
                        ("‖G‖ before clipping (orange) and after (blue)", (("grad_norm", "b"), ("clipped_norm", "a")))):
        values = [[line[key] for line in log] for log in logs.values() for key, _ in lines]
        top, bottom, last = max(map(max, values)), min(map(min, values)), max(map(len, values))
        wide, high = 266 / max(1, last - 1), 100 / ((top - bottom) or 1)
        drawn = ['<path class="axis" d="M34 8V112H302"/>']
        for log in logs.values():
            for key, style in lines:
                points = " ".join(f"{34 + wide * i:.1f},{110 - high * (line[key] - bottom):.1f}" for i, line in enumerate(log))
                drawn.append(f'<polyline class="{style}" points="{points}"/>')
        for x, y, label in ((30, 14, f"{top:.3g}"), (30, 112, f"{bottom:.3g}"), (300, 124, f"epoch {last}")):
            drawn.append(f'<text class="soft" x="{x}" y="{y}" text-anchor="end">{label}</text>')
        figures.append(f'<figure><svg viewBox="0 0 310 128" role="img" aria-label="{what}">{"".join(drawn)}</svg>'
                       f"<figcaption>{title}: {what}</figcaption></figure>")
    return "".join(figures)


def settings_html(table: columns.Table, methods: list[str]) -> str:
    """The settings of each method's meta-training and fine-tuning."""
    found = []
    for method in methods:
        try:
            kept = files.read_json(table.out / "meta" / f"{method}-seed{table.seeds[0]}" / "settings.json")["settings"]
            found.append(("meta-training", kept.items()))
        except (UserError, KeyError, TypeError, AttributeError):
            continue
    found += [("fine-tuning", kept.items()) for kept in table.tuning.values()]
    lines = [f"{what}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in kept)
             for what, kept in found]
    return "<h2>Settings</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""
