"""Table 2 as one self-contained HTML page: the table coloured by gain, bars of gain, learning curves, settings."""
import json
from argparse import Namespace
from html import escape
from itertools import groupby
from statistics import fmean

from mp import columns, files, render
from mp.errors import UserError

STYLE = """
:root { color-scheme: light dark; --ink: #1a1c1f; --soft: #6a7078; --line: #d5d9de; --paper: #fff; --up: 22,140,70; --down: 205,60,40;
  --a: #2563b8; --b: #c2410c }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa1aa; --line: #3b4048; --paper: #15171a;
  --up: 60,190,110; --down: 240,100,80; --a: #7fb2f5; --b: #f59e6c } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto; padding: 1rem; max-width: 76rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } p, li { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; white-space: nowrap }
td, th { padding: .15rem .5rem; text-align: right } th { font-weight: 600 } thead tr:first-child th { text-align: center }
tbody th, thead tr:first-child th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper) }
tr.first > * { border-top: 1px solid var(--line) } td.part { color: var(--soft); text-align: left }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem }
figure { margin: 0; break-inside: avoid } figcaption { font-size: .85rem; color: var(--soft) }
svg { width: 100%; height: auto; font: 10px system-ui, sans-serif } svg text { fill: var(--ink) } svg .soft { fill: var(--soft) }
.up { fill: rgb(var(--up)) } .down { fill: rgb(var(--down)) } .axis { stroke: var(--line) }
.a, .b { fill: none; stroke: var(--a); stroke-width: 1.5 } .b { stroke: var(--b) }
* { print-color-adjust: exact; -webkit-print-color-adjust: exact }
@media print { @page { size: A4 landscape } body { max-width: none; padding: 0 } table { font-size: .6rem } .wide { overflow: visible } }
"""


def html(table: columns.Table, args: Namespace) -> str:
    """The page. Whatever came from a file or the command line is escaped."""
    logs = {}
    for method in columns.METHODS:
        for seed in table.seeds:
            if log := read_log(table, method, seed):
                logs.setdefault(method, {})[seed] = log
    title = "Table 2 on the " + ("embedded miniature suite" if table.suite == "mini" else "paper's datasets")
    parts = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}</p>" for note in render.notes(table, args.absolute, args.paper)),
             f'<div class="wide">{table_html(table, args)}</div>',
             "<h2>Gain of meta-prompts over handcrafted ones, all classes, points</h2>",
             "<p>Upper group: datasets that meta-training uses; lower group: held out.</p>",
             f'<div class="panels">{"".join(bars(table, i) for i, c in enumerate(columns.COLUMNS) if c.baseline())}</div>']
    if logs:
        panels = [curves(columns.METHODS[method], by_seed) for method, by_seed in logs.items()]
        parts += ["<h2>Meta-training</h2>", f'<div class="panels">{"".join(panels)}</div>']
    parts.append(settings_html(table, list(logs)))
    if table.missing:
        parts.append("<h2>Missing</h2><ul>" + "".join(f"<li><code>{escape(c)}</code></li>" for c in table.missing) + "</ul>")
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
            f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n")


def read_log(table: columns.Table, method: str, seed: int) -> list[dict]:
    """A meta-training's log; nothing if it isn't there or not readable."""
    path = table.out / "meta" / f"{method}-seed{seed}" / "log.jsonl"
    try:
        log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [{k: float(line[k]) for k in ("query_loss", "grad_norm", "clipped_norm")} for line in log]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def table_html(table: columns.Table, args: Namespace) -> str:
    spans = [("", 2), ("zero-shot", 4), ("fine-tuned", 6)]
    head = "<tr>" + "".join(f'<th colspan="{n}">{name}</th>' for name, n in spans) + "</tr><tr><th></th><th></th>" + "".join(
        f"<th>{c.title}</th>" for c in columns.COLUMNS) + "</tr>"
    body = []
    for row in table.rows:
        first = row.part == "base"
        name = escape(row.name) + ("*" if row.name in table.training else "")
        cells = [f'<td style="{shade(cell)}">{escape(render.cell_text(cell, args.absolute, args.paper))}</td>' for cell in row.cells]
        body.append(f'<tr{" class=first" if first else ""}><th>{name if first else ""}</th><td class="part">{row.part}</td>'
                    + "".join(cells) + "</tr>")
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
            lines.append(f'<text x="84" y="{y + 10}" text-anchor="end">{escape(row.name)}</text>')
            if gain is not None:
                width = abs(gain) / scale * half
                x, end = (zero, zero + width + 3) if gain >= 0 else (zero - width, zero - width - 3)
                lines.append(f'<rect class="{"up" if gain >= 0 else "down"}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="12"/>'
                             f'<text class="soft" x="{end:.1f}" y="{y + 10}" text-anchor="{"start" if gain >= 0 else "end"}">{gain:+.1f}</text>')
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
        paths = []
        for log in logs.values():
            for key, style in lines:
                points = " ".join(f"{34 + 266 * i / max(1, last - 1):.1f},{110 - 100 * (line[key] - bottom) / ((top - bottom) or 1):.1f}"
                                  for i, line in enumerate(log))
                paths.append(f'<polyline class="{style}" points="{points}"/>')
        labels = (f'<text class="soft" x="30" y="14" text-anchor="end">{top:.3g}</text><text class="soft" x="30" y="112" '
                  f'text-anchor="end">{bottom:.3g}</text><text class="soft" x="300" y="124" text-anchor="end">epoch {last}</text>')
        frame = '<path class="axis" fill="none" d="M34 8V112H302"/>'
        figures.append(f'<figure><svg viewBox="0 0 310 128" role="img" aria-label="{what}">{frame}{"".join(paths)}{labels}</svg>'
                       f"<figcaption>{title}: {what}</figcaption></figure>")
    return "".join(figures)


def settings_html(table: columns.Table, methods: list[str]) -> str:
    """The settings of each method's meta-training."""
    lines = []
    for method in methods:
        try:
            kept = files.read_json(table.out / "meta" / f"{method}-seed{table.seeds[0]}" / "settings.json")
            lines.append(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in kept["settings"].items()))
        except (UserError, KeyError, TypeError, AttributeError):
            continue
    return "<h2>Settings</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""
