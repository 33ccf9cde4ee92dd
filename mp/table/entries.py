"""The results that the table is made of: those that are there, and which of them belong into one table."""
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.suite import Suite
from mp.learners.settings import of_row
from mp.prompts import open_prompt
from mp.runtime.errors import UserError
from mp.runtime.progress import say
from mp.settings import FinetuneSettings, as_dict
from mp.store import results
from mp.store.identity import mismatch, tasks_of
from mp.table.columns import COLUMNS, Column, methods_of


@dataclass
class Entry:
    """A result in the table, or its absence."""
    column: Column
    dataset: str
    seed: int | None                # None: handcrafted words have none
    path: Path
    result: dict[str, Any] | None   # None: absent or damaged
    mismatch: str = ""              # why it doesn't belong into the table; "": it does
    prompt_there: bool = False      # whether the meta-prompt of its method and seed is, and can be used

    @property
    def identity(self) -> dict[str, Any]:
        return self.result["identity"]


def collect(suite: Suite, out: Path, seeds: list[int], classes: str, weights: str | None = None,
            images: Callable[[Entry], dict] | None = None, columns: list[Column] = COLUMNS) -> list[Entry]:
    """All of them below `out`, dataset by dataset, column by column, seed by seed.

    `weights`: the SHA-256 that all must have; `images`: gives the fields of identity that tell an entry's images. None:
    what most have. Raises UserError for a file of another version, or one that can't be read.
    """
    entries, learnt = [], results.tasks_folder(out, suite.other_tasks)
    for dataset in suite.datasets:
        for column in columns:
            root = learnt if column.init == "meta" else out
            for seed in seeds if column.method else [None]:
                path = column.file(root, dataset, seed, classes)
                entries.append(Entry(column, dataset, seed, path, results.read(path)))
    there = [entry for entry in entries if entry.result]
    if weights is None:
        weights = most_frequent([entry.identity.get("weights") for entry in there])
    prompts = fingerprints(learnt, methods_of(columns), seeds, weights, suite.training)
    for entry in entries:
        entry.prompt_there = bool(prompts.get((entry.column.method, entry.seed)))
    for entry in there:
        entry.mismatch = mismatch(entry.identity, {"weights": weights}) or misfit(entry, classes, prompts)
    fitting = [entry for entry in there if not entry.mismatch]
    for entry in fitting:
        entry.mismatch = mismatch(entry.identity, images(entry) if images else images_of_most(entry, fitting))
    return entries


def images_of_most(entry: Entry, entries: list[Entry]) -> dict[str, Any]:
    """What most of the entries of the same dataset were tested on, and of the same seed fine-tuned on."""
    same = [other for other in entries if other.dataset == entry.dataset]
    found = {"tested_on": most_frequent([other.identity.get("tested_on") for other in same])}
    if entry.column.tuned:
        tuned = [other for other in same if other.column.tuned and other.seed == entry.seed]
        found["trained_on"] = most_frequent([other.identity.get("trained_on") for other in tuned])
    return found


def most_frequent(values: list) -> Any:
    return max(values, key=values.count, default=None)


def misfit(entry: Entry, classes: str, prompts: dict[tuple[str, int], str]) -> str:
    """Why a result isn't of the paper's settings or of the meta-prompt in `prompts`; "" if it is of both."""
    column, own_prompt = entry.column, entry.identity.get("prompt")
    if column.tuned:
        own = of_row(FinetuneSettings, column.method)
        settings = as_dict(FinetuneSettings(column.method, **own, classes=classes, seed=entry.seed))
        if different := mismatch(entry.identity.get("settings"), settings):
            return different
    there_now = prompts.get((column.method, entry.seed))  # None: no meta-prompt to compare with
    if column.init == "meta" and there_now not in (None, own_prompt):
        return "made from another meta-prompt than the one that is there now"
    return ""


def fingerprints(out: Path, methods: list[str], seeds: list[int], weights: str | None,
                 tasks: list[str]) -> dict[tuple[str, int], str]:
    """Of the meta-prompts of these weights; None: of any. "" of one of other tasks, from which nothing may be made. It
    tells a damaged one; what was made from it is good."""
    found = {}
    wanted = {"weights": weights} if weights else {}
    for method in methods:
        for seed in seeds:
            path = results.meta_prompt(out, method, seed)
            try:
                if not path.is_file():
                    continue
                kept = open_prompt(path).identity
                if set(tasks_of(kept)) != set(tasks):
                    say(f"{path}: trained on other tasks; left out, with what was made from it")
                    found[method, seed] = ""
                elif not mismatch(kept, wanted):
                    found[method, seed] = open_prompt(path).fingerprint
            except UserError as e:
                say(str(e))
    return found


def tell_left_out(entries: list[Entry]) -> None:
    """A line for every file that is there and doesn't belong, and what to do where its command doesn't help."""
    for entry in entries:
        if entry.mismatch:
            say(f"{entry.path}: left out, {entry.mismatch}; its command below, with --force, makes it anew")
        elif entry.result is None and entry.path.exists():
            say(f"{entry.path}: damaged; left out, its command below makes it anew")
    if any(entry.mismatch for entry in entries):
        say("where that doesn't help, most are of images or weights that aren't used any more: `run.py table --run "
            "--force` makes all anew, another --out keeps both")


def missing_commands(entries: list[Entry], out: Path, classes: str, options: list[str]) -> list[str]:
    """What computes the results that aren't there, and anew those that don't belong. `options`: for all of them."""
    lines = []
    for column in dict.fromkeys(entry.column for entry in entries):
        own = [entry for entry in entries if entry.column == column]
        absent = [entry for entry in own if entry.result is None]
        left_out = [entry for entry in own if entry.mismatch]
        if absent:
            lines.append(command_line(absent, out, classes, options))
        if left_out:
            datasets = dict.fromkeys(entry.dataset for entry in left_out)
            named = "--datasets" in options or "--tasks" in options  # a folder's name doesn't say where it is
            only = [] if named else ["--datasets", *datasets]
            lines.append(command_line(left_out, out, classes, [*options, *only, "--force"]))
    return lines


def command_line(entries: list[Entry], out: Path, classes: str, options: list[str]) -> str:
    """What computes entries of one column: also the meta-prompts, unless they are there and can be used."""
    column, seeds = entries[0].column, dict.fromkeys(entry.seed for entry in entries)
    words = ["zeroshot"]
    if column.tuned:
        words = ["finetune", "--method", column.method, "--init", column.init]
        words += [] if classes == "base" else ["--classes", classes]
    elif column.method:
        unusable = [entry.seed for entry in entries if not entry.prompt_there]
        words = ["meta"] if unusable else ["zeroshot", "--prompt", "meta"]
        words += ["--method", column.method]
        replaced = any(results.meta_prompt(out, column.method, seed).exists() for seed in unusable)
        if replaced and "--force" not in options:
            options = [*options, "--force"]
    if column.method:
        words += ["--seeds", *map(str, seeds)]
    return shlex.join(["python", "run.py", *words, *options])
