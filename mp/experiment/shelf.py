"""Results as they lie on the shelf: read back without images, weights or prompts, as a copy elsewhere may have none.

An arm's results have the arm's words in their names. Of these, one counts if its identity agrees in all that the arm
and the command line say. What they don't say (which images, which weights, which bits of a meta-prompt) must be the
same for all: two that differ there are refused, with both paths, so that no table mixes them.
"""
import glob
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from data.suite import Suite
from mp.experiment import arms
from mp.experiment.arms import START, Arm, Job, Results
from mp.learners.settings import hashed
from mp.runtime.errors import DAMAGE, UserError
from mp.runtime.progress import say
from mp.store import cells
from mp.store.cells import Identity, Result

CURVES = ("query_loss", "grad_norm", "clipped_norm")  # what is drawn of a meta-training


def read_back(suite: Suite, out: Path, wanted: list[Arm], seeds: list[int], precision: str,
              weights: str | None) -> Results:
    """Return the results of the arms below `out` that are there. `weights`: their SHA-256; None: any, but the same.

    Raises UserError for results that differ in what can't be known here.
    """
    found: list[tuple[Job, Result]] = []
    for dataset, arm in product(suite.datasets, wanted):
        for seed in seeds if arm.seeded else [None]:
            job = Job(arm, seed, dataset)
            found += [(job, result) for result in candidates(suite, out, job, precision, weights)]
    present = without_replaced_prompts(suite, out, found)
    require_one_of_each(present)
    say_newer_states(suite, out, present)
    return Results(dict(present))


def candidates(suite: Suite, out: Path, job: Job, precision: str, weights: str | None) -> Iterator[Result]:
    """Yield the results with the job's words that agree in what is known."""
    arm, seed, dataset = job
    words = cells.shortened(arms.folder_words(suite, arm, ""))
    folder = out / ("zeroshot" if arm.tuned is None else "finetune") / words
    for path in cells.siblings(folder, cells.shortened(arms.result_words(dataset, seed)), ".json"):
        result = cells.read(path)
        if result and agrees(suite, job, result.identity, precision, weights):
            yield result


def agrees(suite: Suite, job: Job, identity: dict[str, Any], precision: str, weights: str | None) -> bool:
    """Return whether a result's identity is what it must be, as far as that is known: settings, words, tasks."""
    arm, seed, dataset = job
    known = {"format": cells.FORMAT, "precision": precision, "weights": weights or identity.get("weights")}
    if arm.tuned is not None:
        known["settings"] = hashed(arms.tuning_settings(arm, seed))
    if arm.words is not None:
        known["prompt"] = arm.words or suite.template(dataset)
    elif arm.learnt is None:
        known["prompt"] = START
    if any(identity.get(name) != value for name, value in known.items()):
        return False
    if set(identity.get("tested_on") or ()) != {dataset}:  # names are without spaces, and cut off where they are long
        return False
    if arm.learnt is None:
        return True
    meta = identity.get("meta") or {}
    settings = hashed(arms.meta_settings(suite, arm, seed))
    return meta.get("settings") == settings and set(meta.get("trained_on") or ()) == set(suite.training)


def without_replaced_prompts(suite: Suite, out: Path, found: list[tuple[Job, Result]]) -> list[tuple[Job, Result]]:
    """Return the results without those of a meta-prompt that was learnt again since, if its file is there to tell."""
    results_of: dict[Path, list[Result]] = {}
    for job, result in found:
        if job.arm.learnt is not None:
            results_of.setdefault(prompt_path(suite, out, job, result), []).append(result)
    replaced = set()
    for path, results in results_of.items():
        fingerprints = {result.identity["prompt"] for result in results}
        if path.is_file() and (len(fingerprints) > 1 or is_newer(path, results)):
            from mp.prompts import open_prompt  # seldom, and it takes torch, for which `table` doesn't wait
            replaced |= fingerprints - {open_prompt(path).fingerprint}
    return [(job, result) for job, result in found if result.identity["prompt"] not in replaced]


def is_newer(prompt: Path, results: list[Result]) -> bool:
    """Return whether a prompt was written after a result, which was then perhaps of an older prompt."""
    return any(result.path.stat().st_mtime < prompt.stat().st_mtime for result in results)


def prompt_path(suite: Suite, out: Path, job: Job, result: Result) -> Path:
    """Return where the meta-prompt of a result lies, or lay."""
    words = cells.shortened(arms.meta_words(suite, job.arm, job.seed))
    return out / "meta" / f"{words}-{cells.digits_of(result.identity['meta'])}" / "prompt.pt"


def tuned_path(result: Result) -> Path:
    """Return where the fine-tuned prompt of a result lies, or lay."""
    learnt_from = replace(Identity(**result.identity), tested_on=None)
    words, _ = cells.split_name(result.path)
    return result.path.with_name(cells.name_of(words, learnt_from, ".prompt.pt"))


def require_one_of_each(present: list[tuple[Job, Result]]) -> None:
    """Raise UserError for two results that differ in what is the same in one experiment."""
    first: dict[tuple, tuple[Any, Path]] = {}
    for job, result in present:
        for what, value in unknowns(job, result.identity):
            value_of_first, path = first.setdefault(what, (value, result.path))
            if value != value_of_first:
                kind = " ".join(map(str, what))
                more = ", or --weights" if kind == "weights" else ""
                raise UserError(f"{path} and {result.path}: made with different {kind}; a table holds one kind: move "
                                f"the others away, or give table --run{more}")


def unknowns(job: Job, identity: dict[str, Any]) -> Iterator[tuple[tuple, Any]]:
    """Yield what nobody says here and all results of an experiment have in common."""
    yield ("weights",), identity["weights"]
    yield ("test images of", job.dataset), identity["tested_on"]
    if job.arm.tuned is not None:
        yield ("training images of", job.dataset, "and seed", job.seed), identity["trained_on"]
    if job.arm.learnt is not None:
        yield ("meta-prompts of", job.arm.method, "and seed", job.seed), identity["prompt"]


def say_newer_states(suite: Suite, out: Path, present: list[tuple[Job, Result]]) -> None:
    """Say, in one line, which prompts of the results are older than the state of an unfinished training beside them."""
    prompts = []
    for job, result in present:
        if job.arm.learnt is not None:
            prompts.append(prompt_path(suite, out, job, result))
        if job.arm.tuned is not None:
            prompts.append(tuned_path(result))
    older = []
    for prompt in dict.fromkeys(prompts):
        states = glob.escape(prompt.name.removesuffix("prompt.pt")) + "state-*.pt"
        if any(prompt.parent.glob(states)):
            older.append(prompt)
    if older:
        others = f" and {len(older) - 1} more" if len(older) > 1 else ""
        say(f"{older[0]}{others}: trained anew, and not finished; the numbers are of the older prompt")


def count_others(suite: Suite, out: Path, results: Results) -> tuple[int, int]:
    """Return the number of files below `out`, and of their bytes, that belong to none of the results."""
    used = set()
    for job, result in results.by_job.items():
        used.add(result.path)
        if job.arm.tuned is not None:
            used.add(tuned_path(result))
        if job.arm.learnt is not None:
            used.add(prompt_path(suite, out, job, result).parent)
    sizes = []
    for path in out.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and not {path, path.parent} & used and path.parent != out:
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def read_log(folder: Path, epochs: int) -> list[dict[str, float]]:
    """Return an entry for each epoch of the meta-training in a folder; nothing if its log isn't there, damaged, or of
    another number of epochs, as that of an unfinished training is."""
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        log = [{name: float(json.loads(line)[name]) for name in CURVES} for line in lines]
    except DAMAGE:
        return []
    finite = all(abs(value) < 1e30 for line in log for value in line.values())  # what an axis can span; NaN isn't
    return log if finite and len(log) == epochs else []
