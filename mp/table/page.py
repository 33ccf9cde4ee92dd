"""Table 2 as one self-contained HTML page: the table coloured by gain, what made its numbers, charts, settings."""
from html import escape
from itertools import product
from pathlib import Path
from statistics import fmean

from mp.runtime.errors import DAMAGE, UserError, printable
from mp.settings import PARTS, in_words
from mp.prompts import open_prompt
from mp.store import results
from mp.table.averages import averaged
from mp.table.charts import bars, curves
from mp.table.columns import Column, methods_of
from mp.table.entries import Entry
from mp.table.read import Table
from mp.table.render import Rows, spans

STYLE = Path(__file__).with_name("page.css")


def html(table: Table, rows: Rows, notes: list[str]) -> str:
    """The page. Whatever came from a file or the command line is escaped."""
    title = "Table 2 on the " + ("embedded miniature suite" if table.suite == "mini" else "paper's datasets")
    gains = [bars(table, column) for column in table.columns if column.baseline]
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}</p>" for note in notes),
            '<p>Tap a number for its files and what made them, or go on to the <a href="#gains">gains</a>.</p>',
            f'<div class="wide">{table_html(table, rows)}</div>', *tips(table),
            '<h2 id="gains">Gain of meta-prompts over handcrafted ones, all classes, points</h2>',
            "<p>Upper group: datasets that meta-training uses; lower group: held out.</p>",
            f'<div class="panels">{"".join(gains)}</div>']
    plots = "".join(curves(table, method) for method in methods_of(table.columns))
    if plots:
        body += ["<h2>Meta-training</h2>", f'<div class="panels">{plots}</div>']
    body += listed("Settings", [escape(line) for line in settings_lines(table)])
    body += listed("Missing", [f"<code>{escape(command)}</code>" for command in table.missing])
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
            f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
            "<body>\n" + "\n".join(body) + "\n</body></html>\n")


def listed(title: str, items: list[str]) -> list[str]:
    """A heading and a list; nothing without items."""
    lines = "".join(f"<li>{item}</li>" for item in items)
    return [f"<h2>{title}</h2><ul>{lines}</ul>"] if items else []


def table_html(table: Table, rows: Rows) -> str:
    """A body for each dataset or average, whose name stands beside its parts."""
    groups = [f'<th colspan="{columns}" scope="colgroup"><span>{group}</span></th>'
              for group, columns in spans(table.columns)]
    titles = [f'<th{pair(column)} scope="col">{column.title}</th>' for column in table.columns]
    lines = ['<table><thead><tr><td colspan="2" rowspan="2"></td>', *groups, "</tr><tr>", *titles, "</tr></thead>"]
    for (name, part), (shown, _, *texts) in zip(table.rows, rows):
        if part == PARTS[0]:
            lines.append(f'<tbody><tr><th rowspan="{len(PARTS)}" scope="rowgroup">{escape(shown)}</th>')
        else:
            lines.append("<tr>")
        lines.append(f'<th class="part" scope="row">{part}</th>')
        lines += [cell(table, name, part, column, text) for column, text in zip(table.columns, texts)]
        lines.append("</tr></tbody>" if part == PARTS[-1] else "</tr>")
    return "".join(lines) + "</table>"


def pair(column: Column) -> str:
    """The class, as an attribute, of a column that begins a method's pair."""
    return ' class="pair"' if column.tuned and not column.baseline else ""


def cell(table: Table, name: str, part: str, column: Column, text: str) -> str:
    """A number is a button that opens its tip."""
    gains = column.numbers(table.ours, name, part, gain=True) if column.baseline else []
    content = escape(text)
    if text.split()[0] != "-":
        content = f'<button popovertarget="{tip_id(table, name, column)}">{content}</button>'
    return f"<td{pair(column)}{shade(gains)}>{content}</td>"


def shade(gains: list[float]) -> str:
    """Green for a gain, red for a loss, full at ten points, as an attribute."""
    if not gains:
        return ""
    mean = fmean(gains)
    colour = "up" if mean > 0 else "down"
    return f' style="background: rgba(var(--{colour}), {min(1, abs(mean) / 10) * 0.55:.2f})"'


def tips(table: Table) -> list[str]:
    """What a number opens: the same for all parts of a column's dataset or average."""
    found = []
    names = averaged(table.roles) | {name: [name] for name in table.roles}
    for name, column in product(names, table.columns):
        own = [entry for entry in table.shown if entry.column == column and entry.dataset in names[name]]
        if own:
            title = escape(f"{name}, {column.group} {column.title}")
            found.append(f'<dialog popover id="{tip_id(table, name, column)}" aria-label="{title}">'
                         f"<strong>{title}</strong>{made(own)}</dialog>")
    return found


def made(entries: list[Entry]) -> str:
    """The commands, each with the files that it made. `entries`: of one column, whose files share a folder."""
    files: dict[str, list[str]] = {}
    for entry in entries:
        command = str(entry.result["provenance"].get("command", "an unknown command"))
        files.setdefault(command, []).append(entry.path.name)
    folder, lines = entries[0].path.parent, []
    for command, names in files.items():
        lines += [f"<code>{escape(printable(command))}</code>", escape(printable(f"{folder}: {', '.join(names)}"))]
    return "".join(f"<p>{line}</p>" for line in lines)


def tip_id(table: Table, name: str, column: Column) -> str:
    names = [*averaged(table.roles), *table.roles]
    return f"tip{names.index(name)}-{table.columns.index(column)}"


def settings_lines(table: Table) -> list[str]:
    """The settings of each method's meta-training and fine-tuning."""
    lines = []
    for method in methods_of(table.columns):
        try:
            kept = open_prompt(results.meta_prompt(table.out, method, table.seeds[0])).about
            lines.append(f"meta-training: {in_words(dict(kept['identity']['settings']))}")
        except (UserError, *DAMAGE):
            continue
    return lines + [f"fine-tuning: {in_words(kept)}" for kept in table.tuning.values()]
