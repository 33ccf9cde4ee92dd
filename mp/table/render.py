"""Table 2 as text, Markdown, LaTeX and CSV."""
import csv as csv_module
import html
import io
from itertools import groupby
from statistics import fmean

from mp.runtime.text import line_up, spread
from mp.settings import PARTS
from mp.table.columns import Column
from mp.table.read import Table

LIMIT = 1.0  # points from the paper's value beyond which a cell is marked
LATEX = str.maketrans({c: f"\\{c}" for c in "&%#_${}"} | {c: f"\\{c}{{}}" for c in "^~"}
                      | {"\\": r"\textbackslash{}", "±": r"$\pm$"})
Rows = list[list[str]]  # name, part, and the cells


def spans(columns: list[Column]) -> list[tuple[str, int]]:
    """Each group of columns, and over how many it stands."""
    return [(group, len(list(same))) for group, same in groupby(columns, lambda column: column.group)]


def make_rows(table: Table, absolute: bool) -> Rows:
    """The table as texts, which every look but CSV's shows. `absolute`: per cent instead of gains."""
    found = []
    for name, part in table.rows:
        star = "*" if table.roles.get(name) == "train" else ""
        cells = [cell_text(table, column, name, part, absolute) for column in table.columns]
        found.append([name + star, part, *cells])
    return found


def cell_text(table: Table, column: Column, name: str, part: str, absolute: bool) -> str:
    """A gain, or a value: 75.4, +2.9±0.4, +2.9 (+1.1!) with the paper's in brackets, marked if it differs."""
    as_gain = column.baseline is not None and not absolute
    ours = column.numbers(table.ours, name, part, as_gain)
    text = spread(ours, as_gain)
    paper = column.numbers(table.paper, name, part, as_gain)
    if not paper:
        return text
    differs = ours and abs(fmean(ours) - fmean(paper)) > LIMIT
    mark = "!" if differs else ""
    return f"{text} ({spread(paper, as_gain)}{mark})"


def make_notes(table: Table, absolute: bool) -> list[str]:
    shown = "per cent" if absolute else "per cent; MP columns: points gained over H"
    seeds = " ".join(map(str, table.seeds))
    lines = [f"{shown}; fine-tuned on {table.classes} classes; seeds {seeds}; * meta-training uses this dataset"]
    if table.tasks:
        lines.append(f"meta-prompts of the tasks {', '.join(table.tasks)}")
    if table.paper:
        lines.append(f"(in brackets the paper's value, ! where we differ by more than {LIMIT:g} point)")
    return lines + table.made_by


def text(table: Table, rows: Rows, notes: list[str]) -> str:
    groups = [column.group for column in table.columns]
    titles = [column.title for column in table.columns]
    lines = [["", "", *groups], ["", "", *titles]]
    for name, part, *cells in rows:
        if part == PARTS[0]:
            lines += [[], [name, part, *cells]]
        else:
            lines.append(["", part, *cells])
    return "\n".join([line_up(lines, left=2), "", *notes]) + "\n"


def markdown(table: Table, rows: Rows, notes: list[str]) -> str:
    def escape(value: str) -> str:
        return html.escape(value, quote=False).replace("|", "\\|").replace("*", "\\*")

    head = ["", "", *(f"{column.group} {column.title}" for column in table.columns)]
    rule = ["---", "---", *("---:" for _ in table.columns)]
    lines = ["| " + " | ".join(map(escape, row)) + " |" for row in [head, rule, *rows]]
    return "\n".join([*lines, "", *(f"{escape(note)}  " for note in notes)]) + "\n"


def latex(table: Table, rows: Rows, notes: list[str]) -> str:
    """A tabular for the booktabs and multirow packages."""
    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    lines = [f"% {note}" for note in notes]
    lines += [r"\begin{tabular}{ll" + "r" * len(table.columns) + "}", r"\toprule"]
    groups = [rf"\multicolumn{{{columns}}}{{c}}{{{group}}}" for group, columns in spans(table.columns)]
    lines += [line(["", "", *groups]), line(["", "", *(column.title for column in table.columns)])]
    for name, part, *cells in rows:
        first = ""
        if part == PARTS[0]:
            lines.append(r"\midrule")
            first = rf"\multirow{{{len(PARTS)}}}{{*}}{{{name.translate(LATEX)}}}"
        lines.append(line([first, part.capitalize(), *(cell.translate(LATEX) for cell in cells)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv(table: Table) -> str:
    """The form of data/table2.csv: always absolute per cent, means over the seeds, datasets alone."""
    out = io.StringIO()
    writer = csv_module.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "metric", *(column.key for column in table.columns)])
    for name, part in table.rows:
        if name in table.roles:
            cells = [column.numbers(table.ours, name, part, gain=False) for column in table.columns]
            means = [f"{fmean(values):.2f}" if values else "" for values in cells]
            writer.writerow([name, part.capitalize(), *means])
    return out.getvalue()
