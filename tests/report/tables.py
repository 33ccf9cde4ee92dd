"""Tables of numbers that a test says."""
from pathlib import Path

from data import paper
from data.miniature import suite as mini
from mp.report.columns import make_columns
from mp.report.table2 import Curve, Table
from mp.settings import PARTS
from mp.store.cells import Result

COLUMNS = {column.key: column for column in make_columns()}
KEYS = list(COLUMNS)
MINI = {name: "train" if name in mini.TRAINING else "test" for name in mini.TABLE}
PAPER = {name: "train" if name in paper.TRAINING else "test" for name in paper.NAMES}


def make_table(value, seeds=(1,), roles=MINI, columns=COLUMNS.values(), parts=PARTS, **changes):
    """A result for every cell: `value(key, dataset, part, seed)` in per cent."""
    results = {}
    for column in columns:
        for dataset in roles:
            for seed in seeds if column.method else [None]:
                accuracies = {part: value(column.key, dataset, part, seed) for part in parts}
                settings = {"method": column.method, "lr": 0.0025} if column.arm.tuned is not None else None
                identity = {"weights": "ab" * 32, "settings": settings}
                made_by = {"command": f"python run.py makes {column.key}", "commit": "c0ffee", "torch": "2",
                           "device": "cpu", "precision": "fp32"}
                results[column.key, dataset, seed] = Result(Path("runs") / column.key / f"{dataset}-{seed}.json", {
                    "accuracies": accuracies, "identity": identity, "provenance": made_by})
    whole = Table("mini", [], list(seeds), "base", list(columns), roles, results, [], [], False)
    return Table(**vars(whole) | changes)


def curve(method, seed=1, **changes):
    """A meta-training of 50 epochs."""
    log = [dict(query_loss=3 / i, grad_norm=9 / i, clipped_norm=min(5, 9 / i)) for i in range(1, 51)]
    return Curve(method, seed, log, {"method": method, "inner_lr": 0.025 / 6})._replace(**changes)
