"""The results that are there for the table, and which of them belong into one table."""
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data.suite import Suite
from mp.learners import METHODS
from mp.runtime.errors import UserError, printable
from mp.runtime.progress import say
from mp.settings import FinetuneSettings, as_dict
from mp.store import promptfile, results
from mp.store.identity import differences
from mp.table.columns import COLUMNS, Column


class Place(NamedTuple):
    """Of one result in the table."""
    column: Column
    dataset: str
    seed: int | None   # None: handcrafted words have none


class Entry(NamedTuple):
    """What is in a place."""
    path: Path
    result: dict[str, Any] | None   # None: absent or damaged
    mismatch: str = ""              # why it doesn't belong into the table; "": it does


def places(datasets: list[str], seeds: list[int]) -> Iterator[Place]:
    """Dataset by dataset, column by column, seed by seed."""
    for dataset in datasets:
        for column in COLUMNS:
            for seed in seeds if column.method else [None]:
                yield Place(column, dataset, seed)


def collect(suite: Suite, out: Path, seeds: list[int], classes: str, weights: str | None = None) -> dict[Place, Entry]:
    """Every place, and what is there below `out`. `weights`: the SHA-256 that all must have; None: what most have.

    Raises UserError for a file of another version, or one that can't be read.
    """
    entries = {}
    for place in places(suite.datasets, seeds):
        path = place.column.file(out, place.dataset, place.seed, classes)
        entries[place] = Entry(path, results.read(path))
    identities = {place: entry.result["identity"] for place, entry in entries.items() if entry.result}
    weights = weights or most_frequent([identity.get("weights") for identity in identities.values()])
    images: dict[str, list] = {}
    for place, identity in identities.items():
        images.setdefault(place.dataset, []).append(identity.get("tested_on"))
    tested_on = {dataset: most_frequent(found) for dataset, found in images.items()}
    prompts = fingerprints(out, seeds)
    for place, identity in identities.items():
        reason = mismatch(identity, {"weights": weights, "tested_on": tested_on[place.dataset]})
        if place.column.tuned and not reason:
            reason = mismatch(identity.get("settings"), paper_settings(place, suite, classes))
        prompt = prompts.get((place.column.method, place.seed)) if place.column.init == "meta" else None
        if prompt not in (None, identity.get("prompt")) and not reason:
            reason = "made from another meta-prompt than the one that is there now"
        entries[place] = entries[place]._replace(mismatch=reason)
    return entries


def most_frequent(values: list) -> Any:
    """None if there is none."""
    return max(values, key=values.count, default=None)


def mismatch(kept: Any, wanted: dict[str, Any]) -> str:
    """What of `wanted` is otherwise in what a file keeps, in words; "" if nothing is. What isn't in `wanted` doesn't count."""
    if isinstance(kept, dict):
        kept = {name: kept.get(name) for name in wanted}
    different = differences(kept, wanted)
    return printable(f"made otherwise: {', '.join(different[:3])}") if different else ""


def paper_settings(place: Place, suite: Suite, classes: str) -> dict[str, Any]:
    """What fine-tuning's settings must be."""
    method = place.column.method
    settings = as_dict(FinetuneSettings(method, **METHODS[method].finetune, classes=classes, seed=place.seed))
    if suite.name == "mini":
        del settings["depth"]  # its towers are shallower than the paper's
    return settings


def fingerprints(out: Path, seeds: list[int]) -> dict[tuple[str, int], str]:
    """Of the meta-prompts that are there. Of a damaged one it says so; what was made from it is good all the same."""
    found = {}
    for method in METHODS:
        for seed in seeds:
            path = results.meta_prompt(out, method, seed)
            try:
                if path.is_file():
                    found[method, seed] = promptfile.fingerprint(path)
            except UserError as e:
                say(str(e))
    return found


def tell_left_out(entries: dict[Place, Entry]) -> None:
    """A line for every file that is there and isn't shown."""
    for entry in entries.values():
        if entry.mismatch:
            say(f"{entry.path}: left out, {entry.mismatch}; its command below, with --force, makes it anew")
        elif entry.result is None and entry.path.exists():
            say(f"{entry.path}: damaged; left out, its command below makes it anew")


def missing_commands(entries: dict[Place, Entry], out: Path, classes: str, options: list[str]) -> list[str]:
    """What computes the results that aren't there, and anew those that don't belong. `options`: what all commands get."""
    lines = []
    for column in COLUMNS:
        own = {place: entry for place, entry in entries.items() if place.column == column}
        absent = [place for place, entry in own.items() if entry.result is None]
        left_out = [place for place, entry in own.items() if entry.mismatch]
        if absent:
            lines.append(command_line(absent, out, classes, options))
        if left_out:
            only = [] if "--datasets" in options else ["--datasets", *dict.fromkeys(place.dataset for place in left_out)]
            lines.append(command_line(left_out, out, classes, [*options, *only, "--force"]))
    return lines


def command_line(of: list[Place], out: Path, classes: str, options: list[str]) -> str:
    """Of places in one column."""
    column = of[0].column
    seeds = list(dict.fromkeys(place.seed for place in of))
    words = column.command(classes, all(results.meta_prompt(out, column.method, seed).is_file() for seed in seeds))
    if column.method:
        words += ["--seeds", *map(str, seeds)]
    return shlex.join(["python", "run.py", *words, *options])
