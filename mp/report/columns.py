"""The columns of the paper's Table 2: the handcrafted prompts as they are, and three of every method."""
import csv
from pathlib import Path
from typing import NamedTuple

from mp.experiment.arms import Arm, changed
from mp.learners import METHODS
from mp.report.averages import Accuracies, BySeed, numbers
from mp.settings import FinetuneSettings

PAPER = Path(__file__).parents[2] / "data" / "table2.csv"
SHOWN = [method for method, row in METHODS.items() if not row.source]  # the paper's


class Column(NamedTuple):
    """An arm with a title."""
    key: str                           # as in data/table2.csv
    arm: Arm
    baseline: "Column | None" = None   # what a meta-prompt's column is compared with

    @property
    def method(self) -> str | None:
        return self.arm.method

    @property
    def group(self) -> str:
        return "zero-shot" if self.arm.tuned is None else "fine-tuned"

    @property
    def title(self) -> str:
        start = "H" if self.arm.learnt is None else "MP"
        return f"{METHODS[self.method].title} {start}" if self.method else start

    def numbers(self, columns: dict[str, BySeed], name: str, measure: str, gain: bool) -> list[float]:
        """Return a cell's numbers, of every seed: points over the baseline, or per cent. `columns`: by their keys."""
        base = columns.get(self.baseline.key, {}) if gain else None
        return numbers(columns.get(self.key, {}), name, measure, base)


def make_columns(methods: list[str] = SHOWN, classes: str = FinetuneSettings.classes) -> list[Column]:
    """Return the columns in the table's order. `classes`: those that are fine-tuned on."""
    tuned = changed() if classes == FinetuneSettings.classes else changed(classes=classes)
    words = Column("zeroshot/hand", Arm(words=""))
    columns = [words]
    for method in methods:
        columns.append(Column(f"zeroshot/mp-{method}", Arm(method, learnt=changed()), words))
    for method in methods:
        handcrafted = Column(f"finetune/{method}/hand", Arm(method, tuned=tuned))
        learnt = Arm(method, learnt=changed(), tuned=tuned)
        columns += [handcrafted, Column(f"finetune/{method}/mp", learnt, handcrafted)]
    return columns


def methods_of(columns: list[Column]) -> list[str]:
    """Return the methods in the table's order."""
    return list(dict.fromkeys(column.method for column in columns if column.method))


def paper_accuracies() -> dict[str, Accuracies]:
    """Return the paper's Table 2 in per cent, by the columns' keys."""
    found: dict[str, Accuracies] = {}
    with open(PAPER, newline="", encoding="utf-8") as f:
        for line in csv.DictReader(f):
            dataset, part = line.pop("dataset"), line.pop("metric").lower()
            for key, value in line.items():
                found.setdefault(key, {}).setdefault(dataset, {})[part] = float(value)
    return found
