"""run.py table: the paper's Table 2 from the results that are there; --run computes what is missing."""
from argparse import Namespace
from pathlib import Path

from data.suite import Suite, open_suite
from mp.experiment import arms, shelf
from mp.experiment.arms import Job, Results
from mp.report import formats, page
from mp.report.table2 import SHOWN, Log, Table, make_columns
from mp.runtime import files
from mp.runtime.errors import UserError
from mp.runtime.processes import first_process
from mp.runtime.progress import say
from mp.store import cells


def command(args: Namespace) -> None:
    """Print the table, or write it to --to. With torchrun, the first process does that."""
    suite = open_suite(args.data, args.datasets, args.tasks)
    check(args, suite)
    out = args.out / suite.name
    columns = make_columns(list(dict.fromkeys([*SHOWN, *args.methods])), args.classes)
    wanted = [column.arm for column in columns]
    if args.run:
        results = compute(args, wanted)
    else:
        cells.say_earlier_version(out)
        weights = files.sha256(args.weights) if args.weights else None
        results = shelf.read_back(suite, out, wanted, args.seeds, args.precision, weights)
    if not first_process():
        return
    logs = read_logs(suite, out, results)
    table = Table(suite, args.seeds, args.classes, columns, results, logs, args.paper)
    text = draw(table, args)
    if args.to:
        files.write_whole(args.to, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))
        say(f"{args.to} written")
    else:
        print(text, end="")
    if table.missing:
        say(table.missing)
    count, size = shelf.count_others(suite, out, results)
    if count:
        say(f"{count} files of {size / 1e6:.1f} MB below {out} belong to none of these numbers")


def check(args: Namespace, suite: Suite) -> None:
    """Raise UserError for options that play no part."""
    if args.paper and suite.name != "paper":
        raise UserError("--paper: the paper has no numbers for the miniature's datasets; give --data DIR")
    if args.paper and suite.other_tasks:
        raise UserError("--paper: the paper's numbers are of Table 1's tasks; leave --tasks out")
    for name in ("force", "jobs"):
        if getattr(args, name) and not args.run:
            raise UserError(f"--{name}: plays no part without --run, which computes; leave it out")
    for name in ("absolute", "paper"):
        if getattr(args, name) and args.format == "csv":
            raise UserError(f"--{name}: plays no part in csv, which has our values alone, in per cent; leave it out")


def compute(args: Namespace, wanted: list[arms.Arm]) -> Results:
    from mp.experiment.jobs import do_all  # without --run, nobody waits for torch
    from mp.experiment.session import open_session
    return do_all(open_session(args, learns=True), args, wanted, args.jobs or 1)


def read_logs(suite: Suite, out: Path, results: Results) -> dict[str, list[Log]]:
    """Return the log of each meta-training that results are of, by method; empty where it isn't there or not whole."""
    folders: dict[Path, Job] = {}  # of each, a job whose prompt it holds
    for job, result in results.by_job.items():
        if job.arm.learnt is not None:
            folders[shelf.prompt_path(suite, out, job, result).parent] = job
    logs: dict[str, list[Log]] = {}
    for folder, job in folders.items():
        epochs = arms.meta_settings(suite, job.arm, job.seed).epochs
        logs.setdefault(job.arm.method, []).append(shelf.read_log(folder, epochs))
    return logs


def draw(table: Table, args: Namespace) -> str:
    if args.format == "csv":
        return formats.csv(table)
    form = {"text": formats.text, "markdown": formats.markdown, "html": page.html}[args.format]
    return form(table, args.absolute)
