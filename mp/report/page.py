"""Table 2 as one self-contained HTML page: the table coloured by gain, what made its numbers, charts, settings."""
from html import escape
from itertools import groupby, product
from pathlib import Path
from statistics import fmean

from mp.report.accuracies import MEASURES, starred
from mp.report.charts import bars, curves
from mp.report.formats import cells, notes
from mp.report.table2 import Column, Table
from mp.runtime.errors import printable
from mp.settings import in_words
from mp.store.cells import Result

STYLE = Path(__file__).with_name("page.css")


def html(table: Table, absolute: bool = False) -> str:
    """Return the page. Whatever came from a file or the command line is escaped."""
    title = "Table 2 on the " + ("embedded miniature suite" if table.suite.name == "mini" else "paper's datasets")
    gains = [bars(table, column) for column in table.columns if column.baseline]
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}</p>" for note in notes(table, absolute)),
            '<p>Tap a number for its files and what made them, or go on to the <a href="#gains">gains</a>.</p>',
            f'<div class="wide">{table_html(table, absolute)}</div>', *tips(table),
            '<h2 id="gains">Gain of meta-prompts over handcrafted ones, all classes, points</h2>',
            "<p>Upper group: datasets that meta-training uses; lower group: held out.</p>",
            f'<div class="panels">{"".join(gains)}</div>']
    plots = "".join(curves(method, logs) for method, logs in table.logs.items())
    if plots:
        body += ["<h2>Meta-training</h2>", f'<div class="panels">{plots}</div>']
    body += section("Settings", settings_lines(table))
    body += section("Missing", [table.missing] if table.missing else [])
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
            f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
            "<body>\n" + "\n".join(body) + "\n</body></html>\n")


def section(title: str, lines: list[str]) -> list[str]:
    """Return a heading and a list; nothing without lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return [f"<h2>{title}</h2><ul>{items}</ul>"] if lines else []


def table_html(table: Table, absolute: bool) -> str:
    """Return the table, with a body for each dataset or average, whose name stands beside its measures."""
    html = '<table><thead><tr><td colspan="2" rowspan="2"></td>'
    for group, columns in groupby(table.columns, lambda column: column.group):
        html += f'<th colspan="{len(list(columns))}" scope="colgroup"><span>{group}</span></th>'
    html += "</tr><tr>"
    for column in table.columns:
        html += f'<th{pair(column)} scope="col">{column.title}</th>'
    html += "</tr></thead>"
    for row in table.rows:
        name = f'<th rowspan="{len(MEASURES)}" scope="rowgroup">{escape(starred(row, table.suite.roles))}</th>'
        html += "<tbody>"
        for measure, title in MEASURES.items():
            html += f'<tr>{name}<th class="part" scope="row">{title}</th>'
            for column, text in zip(table.columns, cells(table, row, measure, absolute)):
                html += cell_html(table, column, row, measure, text)
            html += "</tr>"
            name = ""  # it spans all rows of the body
        html += "</tbody>"
    return html + "</table>"


def pair(column: Column) -> str:
    """Return the class, as an attribute, of a column that begins a method's pair."""
    return ' class="pair"' if column.arm.tuned is not None and not column.baseline else ""


def cell_html(table: Table, column: Column, row: str, measure: str, text: str) -> str:
    """Return a cell; its number is a button that opens its tip."""
    gains = column.numbers(table.ours, row, measure, gain=True) if column.baseline else []
    content = escape(text)
    if text.split()[0] != "-":
        content = f'<button popovertarget="{tip_id(table, column, row)}">{content}</button>'
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
    tips = []
    for row, column in product(table.rows, table.columns):
        results = [result for job, result in table.shown.by_job.items()
                   if job.arm == column.arm and job.dataset in table.rows[row]]
        if results:
            title = escape(f"{row}, {column.group} {column.title}")
            tips.append(f'<dialog popover id="{tip_id(table, column, row)}" aria-label="{title}">'
                        f"<strong>{title}</strong>{commands_html(results)}</dialog>")
    return tips


def commands_html(results: list[Result]) -> str:
    """Return the commands that made results, each with its files."""
    files: dict[tuple[str, Path], list[str]] = {}  # names, by the command and the folder
    for path, content in results:
        command = str(content["provenance"].get("command", "an unknown command"))
        files.setdefault((command, path.parent), []).append(path.name)
    lines = []
    for (command, folder), names in files.items():
        lines += [f"<code>{escape(printable(command))}</code>", escape(printable(f"{folder}: {', '.join(names)}"))]
    return "".join(f"<p>{line}</p>" for line in lines)


def tip_id(table: Table, column: Column, row: str) -> str:
    return f"tip{list(table.rows).index(row)}-{table.columns.index(column)}"


def settings_lines(table: Table) -> list[str]:
    """Return the settings of each method's meta-training, of its first seed, and fine-tuning."""
    learning: dict[str, str] = {}
    tuning: dict[str, str] = {}
    for job, result in table.results.by_job.items():
        if job.arm.learnt is not None:
            learning.setdefault(job.arm.method, f"meta-training: {in_words(result.identity['meta']['settings'])}")
    for job, result in table.shown.by_job.items():
        if job.arm.tuned is not None:
            tuning.setdefault(job.arm.method, f"fine-tuning: {in_words(result.identity['settings'])}")
    return [*learning.values(), *tuning.values()]
