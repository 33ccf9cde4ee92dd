"""Table 2, read from results: the numbers of every column, and the paper's beside them."""
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from data.suite import Suite
from mp.runtime.errors import printable
from mp.settings import PARTS
from mp.store import results
from mp.table.averages import BySeed, averaged, averaged_by_seed
from mp.table.columns import COLUMNS, Column, paper_accuracies
from mp.table.entries import Entry, collect, missing_commands, tell_left_out


class Table(NamedTuple):
    suite: str
    out: Path                 # where the meta-prompts are
    tasks: Sequence[str]      # of the meta-prompts, if they aren't Table 1's
    seeds: list[int]
    classes: str              # of fine-tuning
    columns: list[Column]
    roles: dict[str, str]     # dataset -> train or test
    ours: dict[str, BySeed]   # column's key -> its numbers, with the averages
    paper: dict[str, BySeed]  # the paper's; empty if they aren't asked for
    made_by: list[str]        # every commit, torch, device, precision and weights that results are of
    tuning: dict[str, dict]   # method -> settings of its fine-tuning
    shown: list[Entry]        # results that the numbers are of
    missing: list[str]        # commands that compute what is missing

    @property
    def rows(self) -> list[tuple[str, str]]:
        """An average or a dataset, and a part; the averages first."""
        return list(product([*averaged(self.roles), *self.roles], PARTS))


def read(suite: Suite, out: Path, seeds: list[int], classes: str, options: list[str] = [],
         weights: str | None = None, paper: bool = False, columns: list[Column] = COLUMNS) -> Table:
    """The table of the results below `out`. Says what is left out, and why.

    `options`: what the commands for missing cells share with this one; `weights` as `collect` takes it; `paper`: with
    the paper's values.
    """
    entries = collect(suite, out, seeds, classes, weights, columns=columns)
    tell_left_out(entries)
    # A mean of fewer seeds than asked for isn't what its neighbours are: such a cell is a missing one.
    incomplete = {(entry.column, entry.dataset) for entry in entries if entry.result is None or entry.mismatch}
    shown = [entry for entry in entries if (entry.column, entry.dataset) not in incomplete]
    ours: dict[str, BySeed] = {}
    tuning: dict[str, dict] = {}
    for entry in shown:
        seeds_of = ours.setdefault(entry.column.key, {})
        seeds_of.setdefault(entry.seed, {})[entry.dataset] = entry.result["accuracies"]
        if entry.column.tuned:
            tuning.setdefault(entry.column.method, entry.identity["settings"])
    papers = {key: {None: one} for key, one in paper_accuracies().items()} if paper else {}
    made_by = list(dict.fromkeys(map(about, shown)))
    learnt = results.tasks_folder(out, suite.other_tasks)
    missing = missing_commands(entries, learnt, classes, options)
    return Table(suite.name, learnt, suite.other_tasks, seeds, classes, columns, suite.roles,
                 averaged_columns(ours, suite.roles), averaged_columns(papers, suite.roles), made_by, tuning,
                 shown, missing)


def averaged_columns(columns: dict[str, BySeed], roles: dict[str, str]) -> dict[str, BySeed]:
    """The same with the averages."""
    return {key: averaged_by_seed(seeds, roles) for key, seeds in columns.items()}


def about(entry: Entry) -> str:
    """What made a result, and with which weights."""
    made_by, identity = entry.result["provenance"], entry.identity
    commit, weights = str(made_by.get("commit"))[:12], str(identity.get("weights"))[:12]
    machine = f"{identity.get('device')} {identity.get('precision')}"
    return printable(f"commit {commit}, torch {made_by.get('torch')}, {machine}, weights {weights}")
