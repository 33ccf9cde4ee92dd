"""run.py table: the paper's Table 2 from the results that are there; --run computes what is missing."""
import time
from argparse import Namespace
from collections.abc import Callable, Container
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from data.dataset import Dataset
from data.suite import Suite, open_suite
from mp.commands import options
from mp.runtime import files
from mp.table import page, render
from mp.table.columns import COLUMNS, Column, read, survey
from mp.runtime.processes import agree, first_process, processes
from mp.clip.download import openai_weights
from mp.runtime.errors import UserError
from mp.finetune import start_of, tune_one
from mp.meta import learn
from mp.runtime.progress import Progress, say
from mp.commands.session import Session, meta_prompt, open_session, settings_from
from mp.settings import FINETUNE, FinetuneSettings
from mp.commands.zeroshot import HANDCRAFTED, evaluate, learnt_prompt

# Seconds on the miniature and 2 CPU cores, measured; only their ratios matter, for the order and the ETA.
META_COST = {"coop": 30, "cocoop": 60, "promptsrc": 180}
TUNE_COST = {"coop": 5, "cocoop": 9, "promptsrc": 11}  # a dataset
ZEROSHOT_COST = {"": 0.5, "coop": 0.3, "cocoop": 2, "promptsrc": 1}
CLASSES, IMAGES, META_EPOCHS = 12, 600, 50  # of a dataset there, for testing; how longer work on larger ones is estimated


class Job(NamedTuple):
    cost: float
    title: str
    result: Path
    run: Callable[[Callable[[float, str], None]], None]  # is given a function that tells the share that is done, and more


def command(args: Namespace) -> None:
    """Print the table, or write it to --to. With torchrun, the first process does that."""
    suite = open_suite(args.data, args.datasets)
    if args.paper and suite.name != "paper":
        raise UserError("--paper: the paper has no numbers for the miniature's datasets; give --data DIR")
    path = args.weights or suite.weights or (openai_weights() if args.run else None)
    weights = files.sha256(path) if path and path.is_file() and (args.run or args.weights) else None
    if args.run:
        compute_missing(args, suite, weights)
    if not first_process():
        return
    table = read(suite, args.out / suite.name, args.seeds, args.classes, common_options(args), weights)
    if args.format == "html":
        text = page.html(table, args)
    else:
        text = getattr(render, args.format)(table, args.absolute, args.paper)
    if args.to:
        files.write_whole(args.to, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))
        say(f"{args.to} written")
    else:
        print(text, end="")
    if table.missing:
        say("\nMissing cells; these commands fill them, or --run:\n" + "\n".join(f"  {line}" for line in table.missing))


def common_options(args: Namespace) -> list[str]:
    """The options that a command for a missing cell must share with this one."""
    out = args.out if str(args.out) != "runs" else None
    given = (("--data", [args.data]), ("--datasets", args.datasets), ("--weights", [args.weights]), ("--out", [out]))
    return [str(word) for name, values in given if values and values[0] for word in (name, *values)]


def compute_missing(args: Namespace, suite: Suite, weights: str | None) -> None:
    """Compute every cell that isn't there, or is damaged; with --force all. Returns when all are done.

    With torchrun all processes meta-train together, then each takes its share of the cells.
    Raises UserError, before any work, for a result that was made with other settings, weights or images.
    """
    rank, world = processes()
    session = open_session(args) if world > 1 else None
    refused, todo = agree(find_work(args, suite, weights) if first_process() else None)
    if refused:
        raise UserError(refused)
    if not todo:
        return
    session = session or open_session(args)
    together = meta_jobs(session, args, todo)
    jobs = together + [job for job in cell_jobs(session, args) if job.result in todo]
    total, done = sum(job.cost for job in jobs), 0.0
    progress = Progress("table, % of the work")
    for number, job in enumerate(jobs):
        def tell(share: float, text: str = "") -> None:
            progress.update(int(100 * (done + share * job.cost) / total), 100, job.title + text)

        if number < len(together) or number % world == rank:
            if job.result in todo:
                say(f"{job.title}: {job.result}")
            job.run(tell)
        done += job.cost
        if job.result in todo:
            tell(0)
    while any(changed(job.result) in (0, todo[job.result]) for job in jobs[len(together) :]):  # those of other processes
        time.sleep(0.2)


def find_work(args: Namespace, suite: Suite, weights: str | None) -> tuple[str, dict[Path, int]]:
    """Why there can't be any; and the files to write, results and meta-prompts, with the times of their last change."""
    out = args.out / suite.name
    cells = survey(suite, out, args.seeds, args.classes, weights).values()
    if not args.force and (wrong := [cell for cell in cells if cell.problem]):
        more = f", and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
        return (f"{wrong[0].path}: {wrong[0].problem}{more}; give --force to compute everything anew, or another --out, "
                "or the commands for these alone that `run.py table` prints"), {}
    prompts = [meta_prompt(out, method, seed) for method in META_COST for seed in args.seeds]
    missing = [p for p in prompts if not p.is_file()] + [cell.path for cell in cells if cell.result is None]
    return "", {p: changed(p) for p in ([*prompts, *(cell.path for cell in cells)] if args.force else missing)}


def changed(path: Path) -> int:
    """When the file was written; 0 if it isn't there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def method_args(args: Namespace, command: str, method: str) -> Namespace:
    """The paper's settings for one method, with this command's data, weights, device and output."""
    defaults = options.parse([command, "--method", method], "")
    return Namespace(**vars(defaults) | {k: v for k, v in vars(args).items() if k != "command"})


def meta_jobs(session: Session, args: Namespace, todo: Container[Path]) -> list[Job]:
    """All meta-trainings: one that is done takes no time, but is refused if its settings or weights are others.

    The time of the others grows with the epochs and with the classes whose prompts every step encodes.
    """
    classes = fmean(len(session.suite.load(name).classes) for name in session.suite.training) / CLASSES
    jobs = []
    for method, cost in META_COST.items():
        for seed in args.seeds:
            def run(tell, method=method, seed=seed) -> None:
                learn(session, method_args(args, "meta", method), seed)

            prompt = session.meta_prompt(method, seed)
            left = cost * classes * session.suite.meta_epochs / META_EPOCHS if prompt in todo else 0
            jobs.append(Job(left, f"meta-training {method}, seed {seed}", prompt, run))
    return jobs


def cell_jobs(session: Session, args: Namespace) -> list[Job]:
    """Every cell, the cheapest first."""
    jobs = []
    for dataset in map(session.suite.load, session.suite.datasets):
        for column in COLUMNS:
            for seed in args.seeds if column.method else args.seeds[:1]:
                def run(tell, column=column, name=dataset.name, seed=seed) -> None:
                    compute_cell(session, args, column, name, seed, tell)

                title = f"{'fine-tuned' if column.tuned else 'zero-shot'} {column.title}, {dataset.name}, seed {seed}"
                result = column.file(session.out, dataset.name, seed, args.classes)
                jobs.append(Job(cell_cost(column, dataset), title, result, run))
    return sorted(jobs, key=lambda job: job.cost)


def cell_cost(column: Column, dataset: Dataset) -> float:
    """Testing grows with the test images, CoCoOp's also with the classes, as it encodes their prompts for every image;
    fine-tuning with its few-shot images, as many as classes, times the classes that every step encodes."""
    classes, images = len(dataset.classes) / CLASSES, len(dataset.test) / IMAGES
    test = ZEROSHOT_COST[column.method] * images * (classes if column.method == "cocoop" else 1)
    return test + TUNE_COST[column.method] * classes**2 if column.tuned else test


def compute_cell(session: Session, args: Namespace, column: Column, dataset: str, seed: int,
                 tell: Callable[[float, str], None]) -> None:
    test = session.test_set(dataset)
    if not column.method:
        evaluate(session, test, HANDCRAFTED, args.force)
        return
    own = method_args(args, "finetune", column.method)
    settings = session.fitted(settings_from(FinetuneSettings, own, **FINETUNE[column.method], seed=seed))
    if column.tuned:
        own.init = column.init
        tune_one(session, test, settings, start_of(session, own, seed), own,
                 lambda epoch, text, new: tell(epoch / (settings.epochs + 1), f", epoch {epoch}, {text}"))
    else:
        evaluate(session, test, learnt_prompt(session, session.meta_prompt(column.method, seed), settings, seed), args.force)
