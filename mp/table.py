"""run.py table: the paper's Table 2 from the results that are there; --run computes what is missing."""
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from data.suite import open_suite
from mp import options, page, render, results
from mp.columns import COLUMNS, Column, read
from mp.distributed import agree, first_process, processes
from mp.errors import UserError
from mp.files import write_whole
from mp.finetune import start_of, tune_one
from mp.meta import learn
from mp.progress import Progress, say
from mp.session import Session, open_session, settings_from
from mp.settings import FINETUNE, FinetuneSettings
from mp.zeroshot import HANDCRAFTED, evaluate, learnt_prompt

# Seconds on the miniature and 2 CPU cores, measured; only their ratios matter, for the order and the ETA.
META_COST = {"coop": 30, "cocoop": 60, "promptsrc": 180}
TUNE_COST = {"coop": 5, "cocoop": 9, "promptsrc": 11}  # a dataset
ZEROSHOT_COST = {"": 0.5, "coop": 0.3, "cocoop": 2, "promptsrc": 1}


class Job(NamedTuple):
    cost: float
    title: str
    result: Path
    run: Callable[[], None]


def command(args: Namespace) -> None:
    """Print the table, or write it to --to. With torchrun, the first process does that."""
    suite = open_suite(args.data, args.datasets)
    if args.paper and suite.name != "paper":
        raise UserError("--paper: the paper has no numbers for the miniature's datasets; give --data DIR")
    if args.run:
        compute_missing(args)
        if not first_process():
            return
    table = read(suite, args.out / suite.name, args.seeds, args.classes, common_options(args))
    if args.format == "html":
        text = page.html(table, args)
    else:
        text = getattr(render, args.format)(table, args.absolute, args.paper)
    if args.to:
        write_whole(args.to, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))
        say(f"{args.to} written")
    else:
        sys.stdout.write(text)
    if table.missing:
        say("\nMissing cells; these commands fill them, or --run:\n" + "\n".join(f"  {line}" for line in table.missing))


def common_options(args: Namespace) -> str:
    """The options that a command for a missing cell must share with this one."""
    out = args.out if str(args.out) != "runs" else None
    given = (("--data", args.data), ("--weights", args.weights), ("--out", out))
    return "".join(f" {name} {shlex.quote(str(value))}" for name, value in given if value)


def compute_missing(args: Namespace) -> None:
    """Run every job whose result isn't there. Returns when all are done.

    With torchrun all processes meta-train together, then each takes its share of the cells.
    """
    rank, world = processes()
    out = args.out / ("paper" if args.data else "mini")
    session: list[Session] = []  # opened for the first job

    def opened() -> Session:
        if not session:
            session.append(open_session(args))
        return session[0]

    if world > 1:
        opened()
    together, shared = agree_on_missing(meta_jobs(args, out, opened)), agree_on_missing(cell_jobs(args, out, opened))
    total, done = sum(job.cost for job in together + shared), 0.0
    progress = Progress("table, % of the work")
    for number, job in enumerate(together + shared):
        if job in together or number % world == rank:
            say(f"{job.title}: {job.result}")
            job.run()
        done += job.cost
        progress.update(int(100 * done / total), 100, job.title)
    while not all(map(is_done, shared)):  # those of other processes
        time.sleep(0.2)


def is_done(job: Job) -> bool:
    return job.result.is_file() and (job.result.suffix != ".json" or results.read(job.result, say_so=False) is not None)


def agree_on_missing(jobs: list[Job]) -> list[Job]:
    done = agree([is_done(job) for job in jobs])
    return [job for job, there in zip(jobs, done) if not there]


def method_args(args: Namespace, command: str, method: str) -> Namespace:
    """The paper's settings for one method, with this command's data, weights, device and output."""
    defaults = options.parse([command, "--method", method], "")
    return Namespace(**vars(defaults) | {k: v for k, v in vars(args).items() if k != "command"})


def meta_jobs(args: Namespace, out: Path, opened: Callable[[], Session]) -> list[Job]:
    jobs = []
    for method, cost in META_COST.items():
        for seed in args.seeds:
            def run(method=method, seed=seed) -> None:
                learn(opened(), method_args(args, "meta", method), seed)

            prompt = out / "meta" / f"{method}-seed{seed}" / "prompt.pt"
            jobs.append(Job(cost, f"meta-training {method}, seed {seed}", prompt, run))
    return jobs


def cell_jobs(args: Namespace, out: Path, opened: Callable[[], Session]) -> list[Job]:
    """Every cell, the cheapest columns first."""
    jobs = []
    for dataset in open_suite(args.data, args.datasets).datasets:
        for column in COLUMNS:
            for seed in args.seeds if column.method else args.seeds[:1]:
                def run(column=column, dataset=dataset, seed=seed) -> None:
                    compute_cell(opened(), args, column, dataset, seed)

                cost = (TUNE_COST if column.tuned else ZEROSHOT_COST)[column.method]
                title = f"{'fine-tuned' if column.tuned else 'zero-shot'} {column.title}, {dataset}, seed {seed}"
                jobs.append(Job(cost, title, column.file(out, dataset, seed, args.classes), run))
    return sorted(jobs, key=lambda job: job.cost)


def compute_cell(session: Session, args: Namespace, column: Column, dataset: str, seed: int) -> None:
    test = session.test_set(dataset)
    if not column.method:
        evaluate(session, test, HANDCRAFTED)
        return
    own = method_args(args, "finetune", column.method)
    settings = settings_from(FinetuneSettings, own, **FINETUNE[column.method], seed=seed)
    if column.method == "promptsrc":
        settings = replace(settings, depth=session.depth(settings.depth))
    if column.tuned:
        own.init = column.init
        tune_one(session, test, settings, start_of(session, own, seed), own, lambda epoch, text: None)
    else:
        evaluate(session, test, learnt_prompt(session, session.meta_prompt(column.method, seed), settings, seed))
