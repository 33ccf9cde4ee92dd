"""Tables of numbers that a test says."""
from dataclasses import replace
from itertools import product
from pathlib import Path

from data import paper
from data.miniature import suite as mini
from data.suite import Suite
from mp.experiment.arms import Job, Results
from mp.report.table2 import Table, make_columns
from mp.settings import PARTS
from mp.store.cells import Result

COLUMNS = {column.key: column for column in make_columns()}
KEYS = list(COLUMNS)
MINI = Suite("mini", mini.TRAINING, list(mini.TABLE), None, None, None)
PAPER = Suite("paper", paper.TRAINING, paper.NAMES, None, None, None)
LOG = [dict(query_loss=3 / i, grad_norm=9 / i, clipped_norm=min(5, 9 / i)) for i in range(1, 51)]  # of 50 epochs


def make_table(value, seeds=(1,), suite=MINI, columns=COLUMNS.values(), parts=PARTS, **changes):
    """Return a table with a result for every cell: `value(key, dataset, part, seed)` in per cent."""
    by_job = {}
    for column, dataset in product(columns, suite.datasets):
        settings = {"method": column.arm.method, "lr": 0.0025, "inner_lr": 0.025 / 6}
        for seed in seeds if column.arm.seeded else [None]:
            by_job[Job(column.arm, seed, dataset)] = Result(Path("runs") / column.key / f"{dataset}-{seed}.json", {
                "accuracies": {part: value(column.key, dataset, part, seed) for part in parts},
                "identity": {"weights": "ab" * 32, "settings": settings, "meta": {"settings": settings}},
                "provenance": {"command": f"python run.py makes {column.key}", "commit": "c0ffee", "torch": "2",
                               "device": "cpu", "precision": "fp32"}})
    table = Table(suite, list(seeds), "base", list(columns), Results(by_job), {}, paper=False)
    return replace(table, **changes)


def job(key, dataset, seed):
    return Job(COLUMNS[key].arm, seed, dataset)


def without(table, *jobs):
    """Return the table without the results of these jobs."""
    remaining = {job: result for job, result in table.results.by_job.items() if job not in jobs}
    return replace(table, results=Results(remaining))
