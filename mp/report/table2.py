"""The paper's Table 2: its columns, and what is derived from their results. Three columns belong to every method; the
first has the handcrafted prompts as they are."""
import csv
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

from data.suite import Suite
from mp.experiment.arms import HANDCRAFTED, Arm, BySeed, Job, Results, changed
from mp.learners import METHODS
from mp.report.accuracies import datasets_by_row, numbers, with_averages
from mp.settings import FinetuneSettings

PAPER = Path(__file__).parents[2] / "data" / "table2.csv"
Log = list[dict[str, float]]  # an entry for each epoch
SHOWN = [method for method, row in METHODS.items() if not row.source]  # the paper's methods


class Column(NamedTuple):
    """An arm with a title."""
    key: str                           # as in data/table2.csv
    group: str
    title: str
    arm: Arm
    baseline: "Column | None" = None   # what a meta-prompt's column is compared with

    def numbers(self, accuracies: dict[str, BySeed], row: str, measure: str, gain: bool) -> list[float]:
        """Return a cell's numbers, by seed: points over the baseline, or per cent. `accuracies`: by columns' keys."""
        baseline = accuracies.get(self.baseline.key, {}) if gain else None
        return numbers(accuracies.get(self.key, {}), row, measure, baseline)


def make_columns(methods: list[str] = SHOWN, classes: str = FinetuneSettings.classes) -> list[Column]:
    """Return the columns in the table's order. `classes`: those that are fine-tuned on."""
    tuned = changed() if classes == FinetuneSettings.classes else changed(classes=classes)
    words = Column("zeroshot/hand", "zero-shot", "H", HANDCRAFTED)
    zero_shot, fine_tuned = [words], []
    for method in methods:
        title, learnt = METHODS[method].title, Arm(method, learnt=changed())
        zero_shot.append(Column(f"zeroshot/mp-{method}", "zero-shot", f"{title} MP", learnt, words))
        start = Column(f"finetune/{method}/hand", "fine-tuned", f"{title} H", Arm(method, tuned=tuned))
        fine_tuned.append(start)
        learnt_and_tuned = learnt._replace(tuned=tuned)
        fine_tuned.append(Column(f"finetune/{method}/mp", "fine-tuned", f"{title} MP", learnt_and_tuned, start))
    return zero_shot + fine_tuned


def paper_accuracies() -> dict[str, BySeed]:
    """Return the paper's numbers in per cent, by the columns' keys. They have no seeds."""
    accuracies: dict[str, BySeed] = {}
    with open(PAPER, newline="", encoding="utf-8") as f:
        for line in csv.DictReader(f):
            dataset, part = line.pop("dataset"), line.pop("metric").lower()
            for key, value in line.items():
                of_datasets = accuracies.setdefault(key, {None: {}})[None]
                of_datasets.setdefault(dataset, {})[part] = float(value)
    return accuracies


@dataclass(frozen=True)
class Table:
    """The table of a suite. A cell that lacks one of the seeds has no number: a mean of fewer isn't what its neighbours
    are."""
    suite: Suite
    seeds: list[int]
    classes: str               # that are fine-tuned on
    columns: list[Column]
    results: Results           # of the columns' arms, as far as they are there
    logs: dict[str, list[Log]]  # by method: of every seed's meta-training
    paper: bool                # whether the paper's numbers stand beside ours

    @property
    def rows(self) -> dict[str, list[str]]:
        """Return the averages, then the datasets, each with the datasets that it is a mean over."""
        return datasets_by_row(self.suite.roles)

    @cached_property
    def shown(self) -> Results:
        """Return the results of the cells that have every seed, in the order of columns, datasets and seeds."""
        results = {}
        for column, dataset in product(self.columns, self.suite.datasets):
            jobs = [Job(column.arm, seed, dataset) for seed in (self.seeds if column.arm.seeded else [None])]
            if all(job in self.results.by_job for job in jobs):
                results |= {job: self.results.by_job[job] for job in jobs}
        return Results(results)

    @cached_property
    def ours(self) -> dict[str, BySeed]:
        """Return the accuracies of every row, by columns' keys."""
        roles = self.suite.roles
        return {column.key: with_averages(self.shown.by_seed(column.arm), roles) for column in self.columns}

    @cached_property
    def papers(self) -> dict[str, BySeed]:
        """Return the paper's in the same form; empty if they aren't shown."""
        accuracies = paper_accuracies() if self.paper else {}
        return {key: with_averages(by_seed, self.suite.roles) for key, by_seed in accuracies.items()}

    @property
    def missing(self) -> str:
        """Return a sentence about missing results; "" if all are there."""
        columns = sum(len(self.seeds) if column.arm.seeded else 1 for column in self.columns)
        expected = columns * len(self.suite.datasets)
        count = expected - len(self.results.by_job)
        return f"{count} of {expected} results are missing; table --run computes them" if count else ""
