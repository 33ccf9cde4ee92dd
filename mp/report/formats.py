"""Table 2 as text, Markdown and CSV, and what the page has in common with them: cells and notes."""
import csv as csv_module
import html
import io
from itertools import product
from statistics import fmean

from mp.report.accuracies import HM, MEASURES, starred
from mp.report.table2 import Column, Table
from mp.report.text import line_up, spread
from mp.runtime.errors import printable

LIMIT = 1.0  # points from the paper's value beyond which a cell is marked


def text(table: Table, absolute: bool = False) -> str:
    """Return lines for a terminal. `absolute`: per cent instead of gains, here and in the other functions."""
    groups = [column.group for column in table.columns]
    titles = [column.title for column in table.columns]
    lines = [["", "", *groups], ["", "", *titles]]
    for row in table.rows:
        name = starred(row, table.suite.roles)
        lines.append([])
        for measure, title in MEASURES.items():
            lines.append([name, title, *cells(table, row, measure, absolute)])
            name = ""  # stands in its first line alone
    return "\n".join([line_up(lines, left=2), "", *notes(table, absolute)]) + "\n"


def markdown(table: Table, absolute: bool = False) -> str:
    def escape(value: str) -> str:
        return html.escape(value, quote=False).replace("|", "\\|").replace("*", "\\*")

    titles = [f"{column.group} {column.title}" for column in table.columns]
    lines = [["", "", *titles], ["---", "---", *("---:" for _ in titles)]]
    for row, measure in product(table.rows, MEASURES):
        name = starred(row, table.suite.roles)
        lines.append([name, MEASURES[measure], *cells(table, row, measure, absolute)])
    texts = ["| " + " | ".join(map(escape, line)) + " |" for line in lines]
    return "\n".join([*texts, "", *(f"{escape(note)}  " for note in notes(table, absolute))]) + "\n"


def csv(table: Table) -> str:
    """Return the form of data/table2.csv: always per cent, means over the seeds, datasets alone."""
    out = io.StringIO()
    writer = csv_module.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "metric", *(column.key for column in table.columns)])
    for dataset, measure in product(table.suite.datasets, MEASURES):
        means = []
        for column in table.columns:
            values = column.numbers(table.ours, dataset, measure, gain=False)
            means.append(f"{fmean(values):.2f}" if values else "")
        title = MEASURES[measure]
        writer.writerow([dataset, title if title.isupper() else title.capitalize(), *means])
    return out.getvalue()


def cells(table: Table, row: str, measure: str, absolute: bool) -> list[str]:
    """Return the texts of a row's cells, of which every format but CSV is made."""
    return [cell(table, column, row, measure, absolute) for column in table.columns]


def cell(table: Table, column: Column, row: str, measure: str, absolute: bool) -> str:
    """Return a gain, or a value: 75.4, +2.9±0.4, +2.9 (+1.1!) with the paper's in brackets, marked if it differs."""
    as_gain = column.baseline is not None and not absolute
    ours = column.numbers(table.ours, row, measure, as_gain)
    papers = column.numbers(table.papers, row, measure, as_gain)
    text = spread(ours, as_gain)
    if not papers:
        return text
    differs = ours and abs(fmean(ours) - fmean(papers)) > LIMIT
    mark = "!" if differs else ""
    return f"{text} ({spread(papers, as_gain)}{mark})"


def notes(table: Table, absolute: bool) -> list[str]:
    """Return lines about what the numbers are, and about what they were made with: the latter once each."""
    shown = "per cent" if absolute else "per cent; MP columns: points gained over H"
    seeds = " ".join(map(str, table.seeds))
    lines = [f"{shown}; fine-tuned on {table.classes} classes; seeds {seeds}; * meta-training uses this dataset", HM]
    if table.suite.other_tasks:
        lines.append(f"meta-prompts of the tasks {', '.join(table.suite.other_tasks)}")
    if table.paper:
        lines.append(f"(in brackets the paper's value, ! where we differ by more than {LIMIT:g} point)")
    for result in table.shown.by_job.values():
        made_by = result.content["provenance"]
        machine = f"{made_by.get('device')} {made_by.get('precision')}"
        commit, weights = str(made_by.get("commit"))[:12], str(result.identity.get("weights"))[:12]
        line = printable(f"commit {commit}, torch {made_by.get('torch')}, {machine}, weights {weights}")
        if line not in lines:
            lines.append(line)
    return lines
