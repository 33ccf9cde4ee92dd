"""The ten columns of the paper's Table 2: the files of their results, and the table read from them."""
import csv
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from data.suite import Suite
from mp import finetune
from mp.commands import zeroshot
from mp.store import promptfile, results
from mp.runtime.errors import UserError, printable
from mp.runtime.progress import say
from mp.commands.session import meta_prompt
from mp.settings import FINETUNE, FinetuneSettings

PAPER = Path(__file__).parents[2] / "data" / "table2.csv"
METHODS = {"coop": "CoOp", "cocoop": "CoCoOp", "promptsrc": "PromptSRC"}
IMAGES = ("classes", "train_images", "test_images", "names")  # what tells that a result is of the same dataset
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

    def command(self, classes: str, anew: bool) -> list[str]:
        """What computes the column, or computes it `anew`, but not the meta-prompt."""
        if self.tuned:
            other = ["--classes", classes] if classes != "base" else []
            return ["finetune", "--method", self.method, "--init", self.init, *other]
        if not self.method:
            return ["zeroshot"]
        return ["zeroshot", "--prompt", "meta", "--method", self.method] if anew else ["meta", "--method", self.method]


COLUMNS = [Column("zeroshot/hand", "", "handcrafted", False),
           *(Column(f"zeroshot/mp-{m}", m, "meta", False) for m in METHODS),
           *(Column(f"finetune/{m}/{short}", m, init, True) for m in METHODS
             for init, short in (("handcrafted", "hand"), ("meta", "mp")))]


class Cell(NamedTuple):
    """One number: absolute per cent over the seeds, the gain over the baseline, and what the paper has."""
    values: list[float]  # one per seed; none if the result isn't there
    gains: list[float] | None  # likewise; None in a column that isn't compared with another
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
    made_by: list[str]       # commit, device and weights, if several then several
    tuning: dict[str, dict]  # method -> settings of its fine-tuning, if there is some
    out: Path


class Found(NamedTuple):
    """A cell's result file and what is in it; why that doesn't belong into the table, "" if it does."""
    path: Path
    result: dict | None
    problem: str


def survey(suite: Suite, out: Path, seeds: list[int], classes: str,
           weights: str | None = None) -> dict[tuple[Column, str, int], Found]:
    """Every cell's result below `out`; of the handcrafted prompts for the first seed only, as they have none.

    All must have the same `weights` (their SHA-256; None: what most have), and on a dataset the same images.
    """
    cells = {(column, dataset, seed): column.file(out, dataset, seed, classes) for column in COLUMNS
             for dataset in suite.datasets for seed in (seeds if column.method else seeds[:1])}
    found = {cell: results.read(path) for cell, path in cells.items()}
    kept = [(dataset, result["made_from"]) for (_, dataset, _), result in found.items()
            if result and result["made_from"].get("format") == results.FORMAT]
    weights = weights or usual(made_from.get("weights_sha256") for _, made_from in kept)
    same = {dataset: {"format": results.FORMAT, "weights_sha256": weights}
            | {k: usual(made_from.get(k) for name, made_from in kept if name == dataset) for k in IMAGES}
            for dataset in suite.datasets}

    @cache
    def prompt_hash(method: str, seed: int) -> str | None:
        prompt = meta_prompt(out, method, seed)
        try:
            return promptfile.sha256(prompt) if prompt.is_file() else None
        except UserError as e:
            say(str(e))  # what was made from it is good all the same
            return None

    def problem(column: Column, dataset: str, seed: int, made_from: dict) -> str:
        reason = differing(made_from, same[dataset])
        if column.tuned and not reason:
            settings = asdict(FinetuneSettings(column.method, **FINETUNE[column.method], classes=classes, seed=seed))
            if suite.name == "mini":
                del settings["depth"]  # its towers are shallower than the paper's
            reason = differing(made_from.get("settings"), settings)
        prompt = prompt_hash(column.method, seed) if column.init == "meta" else None
        if prompt and not reason and made_from.get("init" if column.tuned else "prompt") != prompt:
            reason = "made from another meta-prompt than the one that is there now"
        return reason

    return {cell: Found(cells[cell], result, problem(*cell, result["made_from"]) if result else "")
            for cell, result in found.items()}


def usual(values: Iterable):
    """The most frequent value; None if there is none."""
    return next((value for value, _ in Counter(map(str, values)).most_common(1)), None)


def differing(kept, wanted: dict) -> str:
    """What of `wanted` is otherwise in `kept`, with both values; nothing if all is as wanted."""
    kept = kept if isinstance(kept, dict) else {}
    other = [(k, *(str(d.get(k))[:12] for d in (kept, wanted))) for k in wanted if str(kept.get(k)) != str(wanted[k])]
    return printable("made with {} {} instead of {}".format(*other[0])) if other else ""


def read(suite: Suite, out: Path, seeds: list[int], classes: str, options: list[str] = [],
         weights: str | None = None) -> Table:
    """The table of the results below `out`. `options`: what the commands for missing cells share with this one."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}  # column's key, dataset, part -> seed -> per cent
    made_by, missing, tuning = {}, {}, {}
    for (column, dataset, seed), (path, result, problem) in survey(suite, out, seeds, classes, weights).items():
        if problem:
            say(f"{path}: left out, {problem}; its command with --force makes it anew")
        for_seeds = [seed] if column.method else seeds
        if problem or result is None:
            lacking = missing.setdefault((column, bool(problem)), (set(), {}))
            lacking[0].update(for_seeds)
            lacking[1][dataset] = True
            continue
        for part in results.PARTS:
            if part in result["accuracies"]:
                found.setdefault((column.key, dataset, part), {}).update(dict.fromkeys(for_seeds, result["accuracies"][part]))
        about, weights_used = result["made_by"], str(result["made_from"].get("weights_sha256"))
        made_by[printable(f"commit {str(about.get('commit'))[:12]}, torch {about.get('torch')}, {about.get('device')} "
                          f"{about.get('precision')}, weights {weights_used[:12]}")] = True
        if column.tuned:
            tuning.setdefault(column.method, result["made_from"]["settings"])
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
        gains = [values[s] - base[s] for s in values if s in base] if baseline else None
        numbers = [[published.get((c.key, d, part)) for d in members] for c in (column, baseline) if c]
        means = [fmean(n) if None not in n else None for n in numbers]
        paper_gain = means[0] - means[1] if len(means) == 2 and None not in means else None
        return Cell(list(values.values())[: None if column.method else 1], gains, means[0], paper_gain)

    rows = [Row(name, part, [cell(column, members, part) for column in COLUMNS])
            for name, members in groups.items() for part in results.PARTS]
    commands = []
    for (column, left_out), (for_seeds, datasets) in missing.items():
        only = ["--datasets", *datasets] if left_out and "--datasets" not in options else []
        commands.append(shlex.join(["python", "run.py", *column.command(classes, left_out), "--seeds",
                                    *map(str, sorted(for_seeds)), *options, *only, *["--force"][:left_out]]))
    return Table(suite.name, seeds, classes, rows, suite.training, commands, list(made_by), tuning, out)


def paper_values() -> dict[tuple[str, str, str], float]:
    """The paper's Table 2 in absolute per cent: column's key, dataset, part -> value."""
    with open(PAPER, newline="", encoding="utf-8") as f:
        return {(key, line["dataset"], line["metric"].lower()): float(value)
                for line in csv.DictReader(f) for key, value in line.items() if "/" in key}

