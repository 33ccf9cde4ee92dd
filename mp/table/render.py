"""Table 2 as text, Markdown, CSV and LaTeX."""
import csv as csv_module
import html
import io
from itertools import groupby
from statistics import fmean

from mp.table import columns
from mp.commands.report import spread

LIMIT = 1.0  # points from the paper's value beyond which a cell is marked


def cell_text(cell, absolute: bool, paper: bool) -> str:
    """A gain, or a value: 75.4, +2.9±0.4, +2.9 (+1.1!) with the paper's in brackets, marked if it differs."""
    as_gain = cell.gains is not None and not absolute
    ours = cell.gains if as_gain else cell.values
    text = spread(ours, as_gain) if ours else "-"
    theirs = cell.paper_gain if as_gain else cell.paper
    if paper and theirs is not None:
        mark = "!" if ours and abs(fmean(ours) - theirs) > LIMIT else ""
        text += f" ({theirs:{'+' if as_gain else ''}.1f}{mark})"
    return text


def grid(table, absolute: bool, paper: bool) -> list[list[str]]:
    """Heads and rows: dataset, metric, and the ten cells."""
    head = ["", "", *(f"{'fine-tuned' if c.tuned else 'zero-shot'} {c.title}" for c in columns.COLUMNS)]
    return [head] + [[row.name + ("*" if row.name in table.training else ""), row.part,
                      *(cell_text(cell, absolute, paper) for cell in row.cells)] for row in table.rows]


def notes(table, absolute: bool, paper: bool) -> list[str]:
    shown = "per cent" if absolute else "per cent; MP columns: points gained over H"
    lines = [f"{shown}; fine-tuned on {table.classes} classes; seeds {' '.join(map(str, table.seeds))}; "
             "* meta-training uses this dataset"]
    if paper:
        lines.append(f"(in brackets the paper's value, ! where we differ by more than {LIMIT:g} point)")
    return lines + table.made_by


def text(table, absolute: bool, paper: bool) -> str:
    rows = grid(table, absolute, paper)
    heads = [["", ""] + [line for c in columns.COLUMNS for line in [f"{'fine-tuned' if c.tuned else 'zero-shot'}"]],
             ["", ""] + [c.title for c in columns.COLUMNS]]
    rows = heads + rows[1:]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        if number > 1 and row[1] == "base":
            lines.append("")
        name = row[0] if number < 2 or row[1] == "base" else ""
        lines.append("  ".join([name.ljust(widths[0]), row[1].ljust(widths[1]),
                                *(value.rjust(width) for value, width in zip(row[2:], widths[2:]))]).rstrip())
    return "\n".join([*lines, "", *notes(table, absolute, paper)]) + "\n"


def markdown(table, absolute: bool, paper: bool) -> str:
    head, *rows = grid(table, absolute, paper)
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *rows]
    def escape(value: str) -> str:
        return html.escape(value, quote=False).replace("|", "\\|").replace("*", "\\*")

    drawn = ["| " + " | ".join(map(escape, row)) + " |" for row in lines]
    return "\n".join([*drawn, "", *(f"{escape(note)}  " for note in notes(table, absolute, paper))]) + "\n"


def csv(table, absolute: bool = True, paper: bool = False) -> str:
    """The form of data/table2.csv: always absolute per cent, means over the seeds, datasets alone."""
    out = io.StringIO()
    writer = csv_module.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "metric", *(c.key for c in columns.COLUMNS)])
    for row in table.rows:
        if row.name not in columns.GROUPS:
            writer.writerow([row.name, row.part.capitalize(),
                             *(f"{fmean(cell.values):.2f}" if cell.values else "" for cell in row.cells)])
    return out.getvalue()


def latex(table, absolute: bool, paper: bool) -> str:
    """A tabular for the booktabs and multirow packages."""
    def escape(value: str) -> str:
        special = {c: f"\\{c}" for c in "&%#_${}"} | {c: f"\\{c}{{}}" for c in "^~"}
        special |= {"\\": r"\textbackslash{}", "±": r"$\pm$"}
        return "".join(special.get(c, c) for c in value)

    lines = [r"\begin{tabular}{ll" + "r" * len(columns.COLUMNS) + "}", r"\toprule",
             r"& & \multicolumn{4}{c}{zero-shot} & \multicolumn{6}{c}{fine-tuned} \\",
             " & ".join(["", "", *(c.title for c in columns.COLUMNS)]) + r" \\"]
    for name, group in groupby(grid(table, absolute, paper)[1:], key=lambda row: row[0]):
        lines.append(r"\midrule")
        for number, row in enumerate(group):
            first = rf"\multirow{{3}}{{*}}{{{escape(name)}}}" if number == 0 else ""
            lines.append(" & ".join([first, row[1].capitalize(), *map(escape, row[2:])]) + r" \\")
    comments = [f"% {note}" for note in notes(table, absolute, paper)]
    return "\n".join([*comments, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
