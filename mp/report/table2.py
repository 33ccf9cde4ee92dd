"""Table 2: the results of its columns, and what is derived from them."""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

from mp.report.averages import MEASURES, BySeed, averaged, averaged_by_seed
from mp.report.columns import Column, paper_accuracies
from mp.runtime.errors import printable
from mp.store.cells import Result


class Curve(NamedTuple):
    """A meta-training: its log, an entry per epoch, and its settings."""
    method: str
    seed: int
    log: list[dict[str, Any]]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The table of a suite. A cell that lacks one of the seeds has no number: a mean of fewer isn't what its neighbours
    are."""
    suite: str
    tasks: Sequence[str]      # of the meta-prompts, if they aren't Table 1's
    seeds: list[int]
    classes: str              # of fine-tuning
    columns: list[Column]
    roles: dict[str, str]     # dataset -> train or test
    results: dict[tuple[str, str, int | None], Result]  # by column's key, dataset and seed; words have none
    curves: list[Curve]
    missing: list[str]        # lines about what is missing
    paper: bool               # whether the paper's numbers stand beside ours

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Return the rows: an average or a dataset, and a measure; the averages first."""
        return list(product([*averaged(self.roles), *self.roles], MEASURES))

    @cached_property
    def whole(self) -> dict[tuple[str, str], dict[int | None, Result]]:
        """Return the cells that have every seed, by column's key and dataset."""
        found = {}
        for column, dataset in product(self.columns, self.roles):
            seeds = self.seeds if column.method else [None]
            cell = {seed: self.results.get((column.key, dataset, seed)) for seed in seeds}
            if all(cell.values()):
                found[column.key, dataset] = cell
        return found

    @cached_property
    def ours(self) -> dict[str, BySeed]:
        """Return accuracies by column's key, with the averages."""
        found: dict[str, BySeed] = {}
        for (key, dataset), cell in self.whole.items():
            for seed, shown in cell.items():
                found.setdefault(key, {}).setdefault(seed, {})[dataset] = shown.accuracies
        return {key: averaged_by_seed(seeds, self.roles) for key, seeds in found.items()}

    @cached_property
    def papers(self) -> dict[str, BySeed]:
        """Return the paper's in the same form; empty if they aren't shown."""
        found = paper_accuracies() if self.paper else {}
        return {key: averaged_by_seed({None: accuracies}, self.roles) for key, accuracies in found.items()}

    def shown(self, column: Column, datasets: Sequence[str]) -> list[Result]:
        """Return the results that a column's numbers on these datasets are of."""
        results = []
        for dataset in datasets:
            results += self.whole.get((column.key, dataset), {}).values()
        return results

    def made_by(self) -> list[str]:
        """Return a line for every commit, version of torch, device, precision and weights that results are of."""
        lines = {}
        for column in self.columns:
            for result in self.shown(column, list(self.roles)):
                made_by = result.content["provenance"]
                machine = f"{made_by.get('device')} {made_by.get('precision')}"
                commit, weights = str(made_by.get("commit"))[:12], str(result.identity.get("weights"))[:12]
                line = f"commit {commit}, torch {made_by.get('torch')}, {machine}, weights {weights}"
                lines[printable(line)] = None
        return list(lines)

    def tuning(self) -> dict[str, dict[str, Any]]:
        """Return the settings of every method's fine-tuning."""
        found = {}
        for column in self.columns:
            if column.arm.tuned is not None:
                for result in self.shown(column, list(self.roles))[:1]:
                    found.setdefault(column.method, result.identity["settings"])
        return found
