"""run.py table: the paper's Table 2 from the results that are there; --run computes what is missing."""
from argparse import Namespace
from functools import partial
from pathlib import Path

from data.suite import open_suite
from mp.commands.finetune import Report, check_dataset, draw_items, find_init, finetune_settings, tune_one
from mp.commands.meta import learn
from mp.commands.session import Session, open_session, shared_options
from mp.commands.zeroshot import HANDCRAFTED, evaluate, learnt_prompt
from mp.prompts import open_prompt
from mp.runtime import files
from mp.runtime.errors import UserError
from mp.runtime.processes import agree, first_process, meet, processes
from mp.runtime.progress import Progress, say
from mp.settings import MetaSettings
from mp.store import results
from mp.store.identity import mismatch, refuse_earlier
from mp.table import page, render
from mp.table.columns import COLUMNS, SHOWN, Column, make_columns, methods_of
from mp.table.entries import Entry, collect
from mp.table.read import Table, read


def command(args: Namespace) -> None:
    """Print the table, or write it to --to. With torchrun, the first process does that."""
    suite = open_suite(args.data, args.datasets, args.tasks)
    if args.paper and suite.name != "paper":
        raise UserError("--paper: the paper has no numbers for the miniature's datasets; give --data DIR")
    if args.paper and suite.other_tasks:
        raise UserError("--paper: the paper's numbers are of Table 1's tasks; leave --tasks out")
    out = args.out / suite.name
    results.refuse_earlier_version(out)
    weights = None
    columns = make_columns(list(dict.fromkeys([*SHOWN, *args.methods])))
    if args.run:
        session = open_session(args)
        compute_missing(session, args, columns)
        weights = session.weights
    elif args.weights:
        weights = files.sha256(args.weights)
    if not first_process():
        return
    table = read(suite, out, args.seeds, args.classes, shared_options(args), weights, args.paper, columns)
    text = draw(table, args)
    if args.to:
        files.write_whole(args.to, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))
        say(f"{args.to} written")
    else:
        print(text, end="")
    if table.missing:
        say("\nMissing cells; these commands fill them, or --run:\n" + "\n".join(f"  {line}" for line in table.missing))


def draw(table: Table, args: Namespace) -> str:
    if args.format == "csv":
        return render.csv(table)
    rows, notes = render.make_rows(table, args.absolute), render.make_notes(table, args.absolute)
    if args.format == "html":
        return page.html(table, rows, notes)
    return getattr(render, args.format)(table, rows, notes)


def compute_missing(session: Session, args: Namespace, columns: list[Column] = COLUMNS) -> None:
    """Learn every missing meta-prompt, then compute every missing cell; with --force all of them.

    With torchrun all processes meta-train together, then each takes its share of the cells. Raises UserError, before
    any work, for a file that was made otherwise. What another device made is left as it is.
    """
    prompts, cells = agree(lambda: find_work(session, args, columns))
    for _, dataset, _ in cells:
        session.test_set(dataset)  # refused now if its images can't be used
    for method, seed in prompts:
        learn(session, session.meta_settings(method, seed), args.force)
    rank, world = processes()
    own = cells[rank::world]
    by_key = {column.key: column for column in columns}
    progress = Progress("cell")
    for number, (key, dataset, seed) in enumerate(own):
        column = by_key[key]
        title = f"{column.group} {column.title}, {dataset}"
        if seed is not None:
            title += f", seed {seed}"

        def report_epoch(epoch: int, text: str, new: int) -> None:
            progress.update(number, len(own), f"{title}, epoch {epoch}, {text}", new=0)

        compute(session, args, column, dataset, seed, report_epoch)
        progress.update(number + 1, len(own), title, new=1)
    meet()  # the first process reads all


def compute(session: Session, args: Namespace, column: Column, dataset: str, seed: int | None,
            report_epoch: Report) -> None:
    """One cell; it is kept in its file."""
    test, method = session.test_set(dataset), column.method
    if column.tuned:
        settings = finetune_settings(session, method, seed, {"classes": args.classes})
        tune_one(session, test, settings, find_init(session, column.init, settings), args.force, report_epoch)
        return
    prompt = HANDCRAFTED
    if method:
        prompt = learnt_prompt(session, "meta", session.meta_settings(method, seed))
    evaluate(session, test, prompt, args.force)


def find_work(session: Session, args: Namespace, columns: list[Column]) -> tuple[list[tuple], list[tuple]]:
    """The meta-trainings (method, seed) and cells (column's key, dataset, seed) to compute. Raises UserError for a file
    that doesn't belong into the table."""
    prompts, wrong = [], {}
    for method in methods_of(columns):
        for seed in args.seeds:
            path = results.meta_prompt(session.tasks_out, method, seed)
            settings = session.meta_settings(method, seed)
            if args.force or not path.exists():
                prompts.append((method, seed))
            else:
                wrong[path] = other_prompt(session, path, settings)
    images = None if args.force else partial(images_now, session, args)
    entries = collect(session.suite, session.out, args.seeds, args.classes, session.weights, images, columns)
    cells = [entry for entry in entries if entry.result is None or args.force]
    for cell in cells:
        if cell.column.tuned:
            settings = finetune_settings(session, cell.column.method, cell.seed, {"classes": args.classes})
            check_dataset(session, session.suite.load(cell.dataset), settings)
    work = [(cell.column.key, cell.dataset, cell.seed) for cell in cells]
    if args.force:
        return prompts, work
    wrong |= {entry.path: entry.mismatch for entry in entries}
    reasons = [f"{path}: {reason}" for path, reason in wrong.items() if reason]
    if reasons:
        more = f", and {len(reasons) - 1} more like it" if len(reasons) > 1 else ""
        raise UserError(f"{reasons[0]}{more}; give --force to compute everything anew, or another --out")
    return prompts, work


def other_prompt(session: Session, path: Path, settings: MetaSettings) -> str:
    """Why a meta-prompt isn't of these settings, weights and images; "" if it is, on whatever device it was learnt."""
    kept = open_prompt(path).identity
    refuse_earlier(path, kept)
    now = session.identity(settings, trained_on=session.task_images(settings))
    return mismatch(kept, {"weights": now.weights, "settings": now.settings, "trained_on": now.trained_on})


def images_now(session: Session, args: Namespace, entry: Entry) -> dict[str, dict]:
    """What the entry would be tested on, and fine-tuned on, if it was made now: as identities keep it."""
    dataset = session.suite.load(entry.dataset)
    wanted = {"tested_on": session.identity(tested_on=dataset).tested_on}
    if entry.column.tuned:
        settings = finetune_settings(session, entry.column.method, entry.seed, {"classes": args.classes})
        items = draw_items(session, dataset, settings)
        wanted["trained_on"] = session.identity(trained_on={dataset.name: items}).trained_on
    return wanted
