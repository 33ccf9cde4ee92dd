"""run.py table: the paper's Table 2 from the results that are there; --run computes what is missing."""
from argparse import Namespace
from pathlib import Path

from data.suite import Suite, open_suite
from mp.experiment import arms, shelf
from mp.experiment.arms import Results
from mp.report import looks, page
from mp.report.columns import SHOWN, Column, make_columns
from mp.report.table2 import Curve, Table
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
    table = table_of(args, suite, out, columns, results)
    text = draw(table, args)
    if args.to:
        files.write_whole(args.to, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))
        say(f"{args.to} written")
    else:
        print(text, end="")
    for line in table.missing:
        say(line)
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


def compute(args: Namespace, wanted: list[arms.Arm]) -> Results:
    from mp.experiment.jobs import do_all  # without --run, nobody waits for torch
    from mp.experiment.session import open_session
    return do_all(open_session(args, learns=True), args, wanted, args.jobs or 1)


def table_of(args: Namespace, suite: Suite, out: Path, columns: list[Column], results: Results) -> Table:
    keys = {column.arm: column.key for column in columns}
    shown = {(keys[job.arm], job.dataset, job.seed): result for job, result in results.by_job.items()}
    expected = sum(len(args.seeds) if column.arm.seeded else 1 for column in columns) * len(suite.datasets)
    missing = []
    if len(shown) < expected:
        missing.append(f"{expected - len(shown)} of {expected} results are missing; table --run computes them")
    return Table(suite.name, suite.other_tasks, args.seeds, args.classes, columns, suite.roles, shown,
                 curves(suite, out, results), missing, args.paper)


def curves(suite: Suite, out: Path, results: Results) -> list[Curve]:
    """Return the log of each meta-training that a result is of, where it is there and whole."""
    found = {}
    for job, result in results.by_job.items():
        if job.arm.learnt is not None and (job.arm.method, job.seed) not in found:
            folder = shelf.prompt_path(suite, out, job, result).parent
            found[job.arm.method, job.seed] = Curve(job.arm.method, job.seed, shelf.read_log(folder),
                                                    result.identity["meta"]["settings"])
    return list(found.values())


def draw(table: Table, args: Namespace) -> str:
    if args.format == "csv":
        return looks.csv(table)
    look = {"text": looks.text, "markdown": looks.markdown, "html": page.html}[args.format]
    return look(table, args.absolute)
