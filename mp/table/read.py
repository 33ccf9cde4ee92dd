"""Table 2, read from the results below --out."""
import json
from pathlib import Path

from data.suite import Suite
from mp.report.columns import Column, methods_of
from mp.report.table2 import Curve, Shown, Table
from mp.runtime.errors import DAMAGE, UserError
from mp.store import promptfile, results
from mp.table.entries import COLUMNS, collect, missing_commands, tell_left_out


def read(suite: Suite, out: Path, seeds: list[int], classes: str, options: list[str] = [],
         weights: str | None = None, paper: bool = False, columns: list[Column] = COLUMNS) -> Table:
    """The table of the results below `out`. Says what is left out, and why.

    `options`: what the commands for missing cells share with this one; `weights` as `collect` takes it; `paper`: with
    the paper's values.
    """
    entries = collect(suite, out, seeds, classes, weights, columns=columns)
    tell_left_out(entries)
    found = {(entry.column.key, entry.dataset, entry.seed): Shown(entry.path, entry.result) for entry in entries
             if entry.result and not entry.mismatch}
    learnt = results.tasks_folder(out, suite.other_tasks)
    read_curves = [read_curve(learnt, method, seed) for method in methods_of(columns) for seed in seeds]
    return Table(suite.name, suite.other_tasks, seeds, classes, columns, suite.roles, found,
                 [curve for curve in read_curves if curve], missing_commands(entries, learnt, classes, options), paper)


def read_curve(out: Path, method: str, seed: int) -> Curve | None:
    """Of the usual meta-prompt; its log is empty if it isn't there, not readable or of another training."""
    prompt = results.meta_prompt(out, method, seed)
    try:
        kept = promptfile.read_file(prompt)["identity"]
        if not isinstance(kept, dict):
            return None
        settings = {**kept["settings"]}
    except (UserError, *DAMAGE):
        return None
    try:
        about = json.loads(prompt.with_name("settings.json").read_text(encoding="utf-8"))
        if json.dumps(kept, sort_keys=True) != json.dumps(about["identity"], sort_keys=True):
            return Curve(method, seed, [], settings)
        lines = prompt.with_name("log.jsonl").read_text(encoding="utf-8").splitlines()
        return Curve(method, seed, [json.loads(line) for line in lines], settings)
    except DAMAGE:
        return Curve(method, seed, [], settings)
