"""Table 2 as text, Markdown and CSV."""
import csv as csv_module
import html
import io
from itertools import groupby
from statistics import fmean

from mp.report.averages import HM, MEASURES
from mp.report.columns import Column
from mp.report.table2 import Table
from mp.report.text import line_up, spread

LIMIT = 1.0  # points from the paper's value beyond which a cell is marked
FIRST, *_, LAST = MEASURES.values()  # of the rows of a dataset or average
Rows = list[list[str]]  # name, measure, and the cells


def spans(columns: list[Column]) -> list[tuple[str, int]]:
    """Return each group of columns, and over how many it stands."""
    return [(group, len(list(same))) for group, same in groupby(columns, lambda column: column.group)]


def make_rows(table: Table, absolute: bool) -> Rows:
    """Return the table as texts, which every look but CSV's shows. `absolute`: per cent instead of gains."""
    found = []
    for name, measure in table.rows:
        star = "*" if table.roles.get(name) == "train" else ""
        cells = [cell_text(table, column, name, measure, absolute) for column in table.columns]
        found.append([name + star, MEASURES[measure], *cells])
    return found


def cell_text(table: Table, column: Column, name: str, measure: str, absolute: bool) -> str:
    """Return a gain, or a value: 75.4, +2.9±0.4, +2.9 (+1.1!) with the paper's in brackets, marked if it differs."""
    as_gain = column.baseline is not None and not absolute
    ours = column.numbers(table.ours, name, measure, as_gain)
    text = spread(ours, as_gain)
    paper = column.numbers(table.papers, name, measure, as_gain)
    if not paper:
        return text
    differs = ours and abs(fmean(ours) - fmean(paper)) > LIMIT
    mark = "!" if differs else ""
    return f"{text} ({spread(paper, as_gain)}{mark})"


def make_notes(table: Table, absolute: bool) -> list[str]:
    shown = "per cent" if absolute else "per cent; MP columns: points gained over H"
    seeds = " ".join(map(str, table.seeds))
    lines = [f"{shown}; fine-tuned on {table.classes} classes; seeds {seeds}; * meta-training uses this dataset", HM]
    if table.tasks:
        lines.append(f"meta-prompts of the tasks {', '.join(table.tasks)}")
    if table.paper:
        lines.append(f"(in brackets the paper's value, ! where we differ by more than {LIMIT:g} point)")
    return lines + table.made_by()


def text(table: Table, absolute: bool = False) -> str:
    groups = [column.group for column in table.columns]
    titles = [column.title for column in table.columns]
    lines = [["", "", *groups], ["", "", *titles]]
    for name, measure, *cells in make_rows(table, absolute):
        if measure == FIRST:
            lines += [[], [name, measure, *cells]]
        else:
            lines.append(["", measure, *cells])
    return "\n".join([line_up(lines, left=2), "", *make_notes(table, absolute)]) + "\n"


def markdown(table: Table, absolute: bool = False) -> str:
    def escape(value: str) -> str:
        return html.escape(value, quote=False).replace("|", "\\|").replace("*", "\\*")

    head = ["", "", *(f"{column.group} {column.title}" for column in table.columns)]
    rule = ["---", "---", *("---:" for _ in table.columns)]
    rows = [head, rule, *make_rows(table, absolute)]
    lines = ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"{escape(note)}  " for note in make_notes(table, absolute))]) + "\n"


def csv(table: Table) -> str:
    """Return the form of data/table2.csv: always absolute per cent, means over the seeds, datasets alone."""
    out = io.StringIO()
    writer = csv_module.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "metric", *(column.key for column in table.columns)])
    for name, measure in table.rows:
        if name in table.roles:
            cells = [column.numbers(table.ours, name, measure, gain=False) for column in table.columns]
            means = [f"{fmean(values):.2f}" if values else "" for values in cells]
            title = MEASURES[measure]
            writer.writerow([name, title if title.isupper() else title.capitalize(), *means])
    return out.getvalue()
