"""Table 2, read from results: for every row and column our numbers, and the paper's beside them."""
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from data.suite import Suite
from mp.runtime.errors import printable
from mp.settings import PARTS
from mp.table.averages import Accuracies, averaged, with_averages
from mp.table.columns import COLUMNS, paper_accuracies
from mp.table.entries import Entry, collect, missing_commands, tell_left_out

BySeed = dict[int | None, Accuracies]  # None where there is none


class Number(NamedTuple):
    ours: dict[int | None, float]   # by seed, None where there is none; empty if the results aren't there
    paper: float | None

    @property
    def mean(self) -> float | None:
        return fmean(self.ours.values()) if self.ours else None

    def minus(self, base: "Number") -> "Number":
        """The gain over a baseline, seed by seed, or over one that has no seeds."""
        gains = {}
        for seed, value in self.ours.items():
            other = base.ours.get(seed, base.ours.get(None))
            if other is not None:
                gains[seed] = value - other
        if self.paper is None or base.paper is None:
            return Number(gains, None)
        return Number(gains, self.paper - base.paper)


class Cell(NamedTuple):
    value: Number          # per cent
    gain: Number | None    # points over the baseline; None in a column that has none


class Row(NamedTuple):
    name: str              # of a dataset or an average
    part: str              # base, new or all
    cells: list[Cell]      # one per column


class Table(NamedTuple):
    suite: str
    out: Path
    seeds: list[int]
    classes: str             # of fine-tuning
    roles: dict[str, str]    # dataset -> train or test
    rows: list[Row]
    made_by: list[str]       # every commit, torch, device, precision and weights that results are of
    tuning: dict[str, dict]  # method -> settings of its fine-tuning
    missing: list[str]       # commands that compute what is missing


def read(suite: Suite, out: Path, seeds: list[int], classes: str, options: list[str] = [],
         weights: str | None = None) -> Table:
    """The table of the results below `out`. Says what is left out, and why.

    `options`: what the commands for missing cells share with this one; `weights` as `collect` takes it.
    """
    entries = collect(suite, out, seeds, classes, weights)
    tell_left_out(entries)
    shown = [entry for entry in entries if entry.result and not entry.mismatch]
    ours: dict[str, BySeed] = {column.key: {} for column in COLUMNS}
    tuning: dict[str, dict] = {}
    for entry in shown:
        ours[entry.column.key].setdefault(entry.seed, {})[entry.dataset] = entry.result["accuracies"]
        if entry.column.tuned:
            tuning.setdefault(entry.column.method, entry.identity["settings"])
    made_by = list(dict.fromkeys(map(about, shown)))
    roles = {name: "train" if name in suite.training else "test" for name in suite.datasets}
    rows = make_rows(ours, paper_accuracies() if suite.name == "paper" else {}, roles)
    missing = missing_commands(entries, out, classes, options)
    return Table(suite.name, out, seeds, classes, roles, rows, made_by, tuning, missing)


def about(entry: Entry) -> str:
    """What made a result, and with which weights."""
    made_by, identity = entry.result["provenance"], entry.identity
    commit, weights = str(made_by.get("commit"))[:12], str(identity.get("weights"))[:12]
    machine = f"{identity.get('device')} {identity.get('precision')}"
    return printable(f"commit {commit}, torch {made_by.get('torch')}, {machine}, weights {weights}")


def make_rows(ours: dict[str, BySeed], paper: dict[str, Accuracies], roles: dict[str, str]) -> list[Row]:
    """The averages first. `ours` and `paper`: by the column's key."""
    ours = {key: {seed: with_averages(one, roles) for seed, one in seeds.items()} for key, seeds in ours.items()}
    paper = {key: with_averages(one, roles) for key, one in paper.items()}

    def number(key: str, name: str, part: str) -> Number:
        found = {seed: one[name][part] for seed, one in ours[key].items() if part in one.get(name, {})}
        return Number(found, paper.get(key, {}).get(name, {}).get(part))

    rows = []
    for name in [*averaged(roles), *roles]:
        for part in PARTS:
            numbers = {column.key: number(column.key, name, part) for column in COLUMNS}
            cells = []
            for column in COLUMNS:
                value, base = numbers[column.key], column.baseline
                cells.append(Cell(value, value.minus(numbers[base.key]) if base else None))
            rows.append(Row(name, part, cells))
    return rows
