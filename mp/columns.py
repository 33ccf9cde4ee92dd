"""The ten columns of the paper's Table 2: the files of their results, and the table read from them."""
import csv
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from data.suite import Suite
from mp import files, finetune, results, zeroshot
from mp.errors import printable
from mp.progress import say
from mp.settings import FINETUNE, FinetuneSettings

PAPER = Path(__file__).parent.parent / "data" / "table2.csv"
METHODS = {"coop": "CoOp", "cocoop": "CoCoOp", "promptsrc": "PromptSRC"}
GROUPS = ("Average", "Average (train)", "Average (test)")


class Column(NamedTuple):
    """One of the ten: the method's prompt from `init`, as it is or fine-tuned. `key` as in data/table2.csv."""
    key: str
    method: str  # "" for the handcrafted zero-shot prompts
    init: str    # handcrafted or meta
    tuned: bool

    @property
    def title(self) -> str:
        start = {"handcrafted": "H", "meta": "MP"}[self.init]
        return f"{METHODS[self.method]} {start}" if self.method else start

    def baseline(self) -> "Column | None":
        """The column that a meta-prompt's is compared with."""
        if self.init == "handcrafted":
            return None
        return next(c for c in COLUMNS if c.init == "handcrafted" and c.tuned == self.tuned
                    and c.method == (self.method if self.tuned else ""))

    def file(self, out: Path, dataset: str, seed: int, classes: str) -> Path:
        if self.tuned:
            return finetune.result_path(out, self.method, self.init, classes, dataset, seed)
        if not self.method:
            return zeroshot.result_file(out, "handcrafted", dataset, None)
        return zeroshot.result_file(out, f"meta-{self.method}", dataset, seed)

    def command(self, classes: str) -> str:
        """What computes the column."""
        if self.tuned:
            other = f" --classes {classes}" if classes != "base" else ""
            return f"python run.py finetune --method {self.method} --init {self.init}{other}"
        return f"python run.py meta --method {self.method}" if self.method else "python run.py zeroshot"


COLUMNS = [Column("zeroshot/hand", "", "handcrafted", False),
           *(Column(f"zeroshot/mp-{m}", m, "meta", False) for m in METHODS),
           *(Column(f"finetune/{m}/{short}", m, init, True) for m in METHODS
             for init, short in (("handcrafted", "hand"), ("meta", "mp")))]


class Cell(NamedTuple):
    """One number: absolute per cent over the seeds, the gain over the baseline, and what the paper has."""
    values: list[float]  # one per seed; none if the result isn't there
    gains: list[float]   # likewise, for meta-prompt columns
    paper: float | None = None
    paper_gain: float | None = None


class Row(NamedTuple):
    name: str   # a dataset or a group
    part: str   # base, new or all
    cells: list[Cell]


class Table(NamedTuple):
    suite: str
    seeds: list[int]
    classes: str
    rows: list[Row]
    training: list[str]
    missing: list[str]     # commands that would fill what is missing
    made_by: list[str]     # commit, device and weights, if several then several
    out: Path


def read(suite: Suite, out: Path, seeds: list[int], classes: str, options: str = "") -> Table:
    """Collect every cell's result file below `out`."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}  # column's key, dataset, part -> seed -> per cent
    made_by, missing = {}, {}

    @cache
    def prompt_hash(method: str, seed: int) -> str | None:
        prompt = out / "meta" / f"{method}-seed{seed}" / "prompt.pt"
        return files.sha256(prompt) if prompt.is_file() else None

    for column in COLUMNS:
        for dataset in suite.datasets:
            for seed in seeds:
                path = column.file(out, dataset, seed, classes)
                result = results.read(path)
                prompt = prompt_hash(column.method, seed)
                if result and (reason := problem(column, result["made_from"], classes, seed, prompt)):
                    say(f"{path}: left out, {reason}; its command with --force makes it anew")
                    result = None
                if result is None:
                    missing.setdefault(column.command(classes), set()).add(seed)
                    continue
                for part in results.PARTS:
                    if part in result["accuracies"]:
                        found.setdefault((column.key, dataset, part), {})[seed] = result["accuracies"][part]
                about, weights = result["made_by"], str(result["made_from"].get("weights_sha256"))
                made_by[printable(f"commit {str(about.get('commit'))[:12]}, torch {about.get('torch')}, "
                                  f"{about.get('device')} {about.get('precision')}, weights {weights[:12]}")] = True
    groups = dict(zip(GROUPS, (suite.datasets, [d for d in suite.datasets if d in suite.training],
                               [d for d in suite.datasets if d not in suite.training])))
    groups = {name: members for name, members in groups.items() if members} | {d: [d] for d in suite.datasets}
    published = paper_values() if suite.name == "paper" else {}

    def per_seed(column: Column, members: list[str], part: str) -> dict[int, float]:
        """The mean over the group, of seeds that have all of it."""
        sets = [found.get((column.key, dataset, part), {}) for dataset in members]
        return {seed: fmean(s[seed] for s in sets) for seed in seeds if all(seed in s for s in sets)}

    def cell(column: Column, members: list[str], part: str) -> Cell:
        values, baseline = per_seed(column, members, part), column.baseline()
        base = per_seed(baseline, members, part) if baseline else {}
        gains = [values[s] - base[s] for s in values if s in base]
        numbers = [[published.get((c.key, d, part)) for d in members] for c in (column, baseline) if c]
        means = [fmean(n) if None not in n else None for n in numbers]
        paper_gain = means[0] - means[1] if len(means) == 2 and None not in means else None
        return Cell(list(values.values())[: None if column.method else 1], gains, means[0], paper_gain)

    rows = [Row(name, part, [cell(column, members, part) for column in COLUMNS])
            for name, members in groups.items() for part in results.PARTS]
    commands = [f"{line} --seeds {' '.join(map(str, sorted(s)))}{options}" for line, s in missing.items()]
    return Table(suite.name, seeds, classes, rows, suite.training, commands, list(made_by), out)


def problem(column: Column, made_from: dict, classes: str, seed: int, prompt: str | None) -> str:
    """Why a result doesn't belong into the table; nothing if it does. `prompt`: the meta-prompt's hash, if it is there."""
    if column.tuned:
        usual = asdict(FinetuneSettings(column.method, **FINETUNE[column.method], classes=classes, seed=seed))
        kept = {k: files.dig(made_from, "settings", k) for k in usual}
        if other := [k for k, v in usual.items() if kept[k] != v and k != "depth"]:  # the miniature's is smaller
            return f"made with {other[0]} {kept[other[0]]} instead of {usual[other[0]]}"
    if column.init == "meta" and prompt and made_from.get("init" if column.tuned else "prompt") != prompt:
        return "made from another meta-prompt than the one that is there now"
    return ""


def paper_values() -> dict[tuple[str, str, str], float]:
    """The paper's Table 2 in absolute per cent: column's key, dataset, part -> value."""
    with open(PAPER, newline="", encoding="utf-8") as f:
        return {(key, line["dataset"], line["metric"].lower()): float(value)
                for line in csv.DictReader(f) for key, value in line.items() if "/" in key}

