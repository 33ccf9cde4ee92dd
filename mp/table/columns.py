"""The columns of the paper's Table 2: the handcrafted prompts as they are, and three of every method."""
import csv
from pathlib import Path
from typing import NamedTuple

from mp.learners import METHODS
from mp.store import results
from mp.table.averages import Accuracies, BySeed, numbers

PAPER = Path(__file__).parents[2] / "data" / "table2.csv"


class Column(NamedTuple):
    """The prompts of one column, as they are or fine-tuned."""
    key: str                           # as in data/table2.csv
    method: str | None                 # None: handcrafted words, which have no seed
    init: str                          # handcrafted or meta
    tuned: bool
    baseline: "Column | None" = None   # what a meta-prompt's column is compared with

    @property
    def group(self) -> str:
        return "fine-tuned" if self.tuned else "zero-shot"

    @property
    def title(self) -> str:
        start = "MP" if self.init == "meta" else "H"
        return f"{METHODS[self.method].title} {start}" if self.method else start

    def file(self, out: Path, dataset: str, seed: int, classes: str) -> Path:
        """Of its result on a dataset; `classes`: of fine-tuning."""
        if self.tuned:
            return results.finetune_file(out, self.method, self.init, classes, dataset, seed)
        if self.method:
            return results.zeroshot_file(out, f"meta-{self.method}", dataset, seed)
        return results.zeroshot_file(out, "handcrafted", dataset)

    def numbers(self, columns: dict[str, BySeed], name: str, part: str, gain: bool) -> list[float]:
        """One cell's, of every seed: points over the baseline, or per cent. `columns`: by their keys."""
        base = columns.get(self.baseline.key, {}) if gain else None
        return numbers(columns.get(self.key, {}), name, part, base)


def make_columns(methods: list[str]) -> list[Column]:
    """In the table's order."""
    words = Column("zeroshot/hand", None, "handcrafted", False)
    columns = [words]
    for method in methods:
        columns.append(Column(f"zeroshot/mp-{method}", method, "meta", False, words))
    for method in methods:
        handcrafted = Column(f"finetune/{method}/hand", method, "handcrafted", True)
        columns += [handcrafted, Column(f"finetune/{method}/mp", method, "meta", True, handcrafted)]
    return columns


SHOWN = [method for method, row in METHODS.items() if not row.source]  # the paper's
COLUMNS = make_columns(SHOWN)


def methods_of(columns: list[Column]) -> list[str]:
    """In the table's order."""
    return list(dict.fromkeys(column.method for column in columns if column.method))


def paper_accuracies() -> dict[str, Accuracies]:
    """The paper's Table 2 in per cent, by the columns' keys."""
    found: dict[str, Accuracies] = {}
    with open(PAPER, newline="", encoding="utf-8") as f:
        for line in csv.DictReader(f):
            dataset, part = line.pop("dataset"), line.pop("metric").lower()
            for key, value in line.items():
                found.setdefault(key, {}).setdefault(dataset, {})[part] = float(value)
    return found
