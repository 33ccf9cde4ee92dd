"""Table 2, read from results: the numbers of every column, and the paper's beside them."""
from itertools import product
from pathlib import Path
from typing import NamedTuple

from data.suite import Suite
from mp.runtime.errors import printable
from mp.settings import PARTS
from mp.table.averages import Accuracies, averaged, gains, numbers, with_averages
from mp.table.columns import COLUMNS, Column, paper_accuracies
from mp.table.entries import Entry, collect, missing_commands, tell_left_out

BySeed = dict[int | None, Accuracies]  # None where there is none


class Numbers(NamedTuple):
    """By the columns' keys, for every seed; with the averages."""
    values: dict[str, BySeed]   # per cent
    gains: dict[str, BySeed]    # points over the column's baseline, of columns that have one

    def of(self, column: Column, name: str, part: str, gain: bool) -> list[float]:
        """One cell's, a number per seed: gains, or values."""
        seeds = (self.gains if gain else self.values).get(column.key, {})
        return numbers(list(seeds.values()), name, part)


class Table(NamedTuple):
    suite: str
    out: Path
    seeds: list[int]
    classes: str             # of fine-tuning
    roles: dict[str, str]    # dataset -> train or test
    ours: Numbers
    paper: Numbers           # empty if they aren't asked for
    made_by: list[str]       # every commit, torch, device, precision and weights that results are of
    tuning: dict[str, dict]  # method -> settings of its fine-tuning
    missing: list[str]       # commands that compute what is missing

    @property
    def rows(self) -> list[tuple[str, str]]:
        """An average or a dataset, and a part; the averages first."""
        return list(product([*averaged(self.roles), *self.roles], PARTS))


def read(suite: Suite, out: Path, seeds: list[int], classes: str, options: list[str] = [],
         weights: str | None = None, paper: bool = False) -> Table:
    """The table of the results below `out`. Says what is left out, and why.

    `options`: what the commands for missing cells share with this one; `weights` as `collect` takes it; `paper`: with
    the paper's values.
    """
    entries = collect(suite, out, seeds, classes, weights)
    tell_left_out(entries)
    shown = [entry for entry in entries if entry.result and not entry.mismatch]
    ours: dict[str, BySeed] = {}
    tuning: dict[str, dict] = {}
    for entry in shown:
        seeds_of = ours.setdefault(entry.column.key, {})
        seeds_of.setdefault(entry.seed, {})[entry.dataset] = entry.result["accuracies"]
        if entry.column.tuned:
            tuning.setdefault(entry.column.method, entry.identity["settings"])
    papers = {key: {None: one} for key, one in paper_accuracies().items()} if paper else {}
    made_by = list(dict.fromkeys(map(about, shown)))
    roles = {name: "train" if name in suite.training else "test" for name in suite.datasets}
    missing = missing_commands(entries, out, classes, options)
    return Table(suite.name, out, seeds, classes, roles, with_gains(ours, roles), with_gains(papers, roles), made_by,
                 tuning, missing)


def about(entry: Entry) -> str:
    """What made a result, and with which weights."""
    made_by, identity = entry.result["provenance"], entry.identity
    commit, weights = str(made_by.get("commit"))[:12], str(identity.get("weights"))[:12]
    machine = f"{identity.get('device')} {identity.get('precision')}"
    return printable(f"commit {commit}, torch {made_by.get('torch')}, {machine}, weights {weights}")


def with_gains(columns: dict[str, BySeed], roles: dict[str, str]) -> Numbers:
    """The averages too, and gains: seed by seed, or over a baseline that has no seeds. `columns`: by their keys."""
    found = Numbers({}, {})
    for column in COLUMNS:
        if column.key not in columns:
            continue
        seeds = {seed: with_averages(one, roles) for seed, one in columns[column.key].items()}
        found.values[column.key] = seeds
        if column.baseline:
            base = found.values.get(column.baseline.key, {})
            found.gains[column.key] = {}
            for seed, one in seeds.items():
                of_seed = base.get(seed, base.get(None, {}))
                found.gains[column.key][seed] = gains(one, of_seed)
    return found
