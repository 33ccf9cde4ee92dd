"""Table 2 as text, Markdown, LaTeX and CSV."""
import csv as csv_module
import html
import io
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from mp.runtime.text import line_up, spread
from mp.settings import PARTS
from mp.table.columns import COLUMNS
from mp.table.read import Cell, Table

LIMIT = 1.0  # points from the paper's value beyond which a cell is marked
LATEX = str.maketrans({c: f"\\{c}" for c in "&%#_${}"} | {c: f"\\{c}{{}}" for c in "^~"}
                      | {"\\": r"\textbackslash{}", "±": r"$\pm$"})


class Grid(NamedTuple):
    """The table as texts: what every look but CSV's shows."""
    groups: list[str]       # zero-shot or fine-tuned, and
    titles: list[str]       # CoOp MP, ..., of every column of cells
    rows: list[list[str]]   # name, part, and the cells
    notes: list[str]


def grid(table: Table, absolute: bool = False, paper: bool = False) -> Grid:
    """`absolute`: per cent instead of gains; `paper`: with the paper's values."""
    rows = []
    for row in table.rows:
        star = "*" if table.roles.get(row.name) == "train" else ""
        rows.append([row.name + star, row.part, *(cell_text(cell, absolute, paper) for cell in row.cells)])
    groups, titles = [column.group for column in COLUMNS], [column.title for column in COLUMNS]
    return Grid(groups, titles, rows, notes(table, absolute, paper))


def cell_text(cell: Cell, absolute: bool, paper: bool) -> str:
    """A gain, or a value: 75.4, +2.9±0.4, +2.9 (+1.1!) with the paper's in brackets, marked if it differs."""
    as_gain = cell.gain is not None and not absolute
    number = cell.gain if as_gain else cell.value
    text = points(number.ours.values(), as_gain) if number.ours else "-"
    if not paper or number.paper is None:
        return text
    differs = number.ours and abs(number.mean - number.paper) > LIMIT
    mark = "!" if differs else ""
    return f"{text} ({points([number.paper], as_gain)}{mark})"


def points(values: Iterable[float], sign: bool) -> str:
    """As `spread`, but zero has no minus: what rounds to it is 0.0, as a gain +0.0."""
    text = spread(list(values), sign)
    if text.startswith("-0.0"):
        return text.replace("-", "+" if sign else "", 1)
    return text


def notes(table: Table, absolute: bool, paper: bool) -> list[str]:
    shown = "per cent" if absolute else "per cent; MP columns: points gained over H"
    seeds = " ".join(map(str, table.seeds))
    lines = [f"{shown}; fine-tuned on {table.classes} classes; seeds {seeds}; * meta-training uses this dataset"]
    if paper:
        lines.append(f"(in brackets the paper's value, ! where we differ by more than {LIMIT:g} point)")
    return lines + table.made_by


def text(grid: Grid) -> str:
    lines = [["", "", *grid.groups], ["", "", *grid.titles]]
    for name, part, *cells in grid.rows:
        if part == PARTS[0]:
            lines += [[], [name, part, *cells]]
        else:
            lines.append(["", part, *cells])
    return "\n".join([line_up(lines, left=2), "", *grid.notes]) + "\n"


def markdown(grid: Grid) -> str:
    def escape(value: str) -> str:
        return html.escape(value, quote=False).replace("|", "\\|").replace("*", "\\*")

    head = ["", "", *(f"{group} {title}" for group, title in zip(grid.groups, grid.titles))]
    rule = ["---", "---", *("---:" for _ in grid.titles)]
    lines = ["| " + " | ".join(map(escape, row)) + " |" for row in [head, rule, *grid.rows]]
    return "\n".join([*lines, "", *(f"{escape(note)}  " for note in grid.notes)]) + "\n"


def latex(grid: Grid) -> str:
    """A tabular for the booktabs and multirow packages."""
    lines = [f"% {note}" for note in grid.notes]
    lines += [r"\begin{tabular}{ll" + "r" * len(grid.titles) + "}", r"\toprule"]
    groups = [rf"\multicolumn{{{len(list(same))}}}{{c}}{{{group}}}" for group, same in groupby(grid.groups)]
    lines += [latex_row(["", "", *groups]), latex_row(["", "", *grid.titles])]
    for name, part, *cells in grid.rows:
        first = ""
        if part == PARTS[0]:
            lines.append(r"\midrule")
            first = rf"\multirow{{{len(PARTS)}}}{{*}}{{{name.translate(LATEX)}}}"
        lines.append(latex_row([first, part.capitalize(), *(cell.translate(LATEX) for cell in cells)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def csv(table: Table) -> str:
    """The form of data/table2.csv: always absolute per cent, means over the seeds, datasets alone."""
    out = io.StringIO()
    writer = csv_module.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "metric", *(column.key for column in COLUMNS)])
    for row in table.rows:
        if row.name in table.roles:
            means = [f"{cell.value.mean:.2f}" if cell.value.ours else "" for cell in row.cells]
            writer.writerow([row.name, row.part.capitalize(), *means])
    return out.getvalue()
