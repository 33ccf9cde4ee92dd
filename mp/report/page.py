"""Table 2 as one self-contained HTML page: the table coloured by gain, what made its numbers, charts, settings."""
from html import escape
from itertools import product
from pathlib import Path
from statistics import fmean

from mp.report.averages import MEASURES, averaged
from mp.report.charts import bars, curves
from mp.report.columns import Column, methods_of
from mp.report.looks import FIRST, LAST, Rows, make_notes, make_rows, spans
from mp.report.table2 import Table
from mp.runtime.errors import printable
from mp.settings import in_words
from mp.store.cells import Result

STYLE = Path(__file__).with_name("page.css")


def html(table: Table, absolute: bool = False) -> str:
    """Return the page. Whatever came from a file or the command line is escaped."""
    title = "Table 2 on the " + ("embedded miniature suite" if table.suite == "mini" else "paper's datasets")
    gains = [bars(table, column) for column in table.columns if column.baseline]
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}</p>" for note in make_notes(table, absolute)),
            '<p>Tap a number for its files and what made them, or go on to the <a href="#gains">gains</a>.</p>',
            f'<div class="wide">{table_html(table, make_rows(table, absolute))}</div>', *tips(table),
            '<h2 id="gains">Gain of meta-prompts over handcrafted ones, all classes, points</h2>',
            "<p>Upper group: datasets that meta-training uses; lower group: held out.</p>",
            f'<div class="panels">{"".join(gains)}</div>']
    plots = "".join(curves(table, method) for method in methods_of(table.columns))
    if plots:
        body += ["<h2>Meta-training</h2>", f'<div class="panels">{plots}</div>']
    body += listed("Settings", [escape(line) for line in settings_lines(table)])
    body += listed("Missing", [escape(line) for line in table.missing])
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
            f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
            "<body>\n" + "\n".join(body) + "\n</body></html>\n")


def listed(title: str, items: list[str]) -> list[str]:
    """Return a heading and a list; nothing without items."""
    lines = "".join(f"<li>{item}</li>" for item in items)
    return [f"<h2>{title}</h2><ul>{lines}</ul>"] if items else []


def table_html(table: Table, rows: Rows) -> str:
    """Return a body for each dataset or average, whose name stands beside its measures."""
    groups = [f'<th colspan="{columns}" scope="colgroup"><span>{group}</span></th>'
              for group, columns in spans(table.columns)]
    titles = [f'<th{pair(column)} scope="col">{column.title}</th>' for column in table.columns]
    lines = ['<table><thead><tr><td colspan="2" rowspan="2"></td>', *groups, "</tr><tr>", *titles, "</tr></thead>"]
    for (name, measure), (shown, title, *texts) in zip(table.rows, rows):
        if title == FIRST:
            lines.append(f'<tbody><tr><th rowspan="{len(MEASURES)}" scope="rowgroup">{escape(shown)}</th>')
        else:
            lines.append("<tr>")
        lines.append(f'<th class="part" scope="row">{title}</th>')
        lines += [cell(table, name, measure, column, text) for column, text in zip(table.columns, texts)]
        lines.append("</tr></tbody>" if title == LAST else "</tr>")
    return "".join(lines) + "</table>"


def pair(column: Column) -> str:
    """Return the class, as an attribute, of a column that begins a method's pair."""
    return ' class="pair"' if column.arm.tuned is not None and not column.baseline else ""


def cell(table: Table, name: str, measure: str, column: Column, text: str) -> str:
    """Return a cell; its number is a button that opens its tip."""
    gains = column.numbers(table.ours, name, measure, gain=True) if column.baseline else []
    content = escape(text)
    if text.split()[0] != "-":
        content = f'<button popovertarget="{tip_id(table, name, column)}">{content}</button>'
    return f"<td{pair(column)}{shade(gains)}>{content}</td>"


def shade(gains: list[float]) -> str:
    """Return green for a gain, red for a loss, full at ten points, as an attribute."""
    if not gains:
        return ""
    mean = fmean(gains)
    colour = "up" if mean > 0 else "down"
    return f' style="background: rgba(var(--{colour}), {min(1, abs(mean) / 10) * 0.55:.2f})"'


def tips(table: Table) -> list[str]:
    """Return what numbers open: the same for all measures of a column's dataset or average."""
    found = []
    names = averaged(table.roles) | {name: [name] for name in table.roles}
    for name, column in product(names, table.columns):
        if shown := table.shown(column, names[name]):
            title = escape(f"{name}, {column.group} {column.title}")
            found.append(f'<dialog popover id="{tip_id(table, name, column)}" aria-label="{title}">'
                         f"<strong>{title}</strong>{made(shown)}</dialog>")
    return found


def made(shown: list[Result]) -> str:
    """Return the commands, each with the files that it made."""
    files: dict[tuple[str, Path], list[str]] = {}  # names, by the command and the folder
    for path, content in shown:
        command = str(content["provenance"].get("command", "an unknown command"))
        files.setdefault((command, path.parent), []).append(path.name)
    lines = []
    for (command, folder), names in files.items():
        lines += [f"<code>{escape(printable(command))}</code>", escape(printable(f"{folder}: {', '.join(names)}"))]
    return "".join(f"<p>{line}</p>" for line in lines)


def tip_id(table: Table, name: str, column: Column) -> str:
    names = [*averaged(table.roles), *table.roles]
    return f"tip{names.index(name)}-{table.columns.index(column)}"


def settings_lines(table: Table) -> list[str]:
    """Return the settings of each method's meta-training, of its first seed, and fine-tuning."""
    learning: dict[str, str] = {}
    for curve in table.curves:
        learning.setdefault(curve.method, f"meta-training: {in_words(curve.settings)}")
    return [*learning.values(), *(f"fine-tuning: {in_words(settings)}" for settings in table.tuning().values())]
