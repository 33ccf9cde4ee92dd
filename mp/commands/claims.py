"""run.py claims: the paper's claims, each with the prompts and seeds that it takes to judge it."""
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from mp.claims import arms, findings
from mp.claims.arms import Arm, Changes, Comparison
from mp.commands import options
from mp.commands.finetune import check_dataset, check_kept, finetune_settings, find_init, tune_one
from mp.commands.meta import learn
from mp.commands.session import Session, method_of, open_session
from mp.commands.zeroshot import HANDCRAFTED, Prompt, evaluate, learnt_prompt, words_prompt
from mp.prompts import fingerprint, learner_of, open_prompt
from mp.runtime.errors import DAMAGE, RunError, UserError, unreadable
from mp.runtime.pool import open_pool
from mp.runtime.progress import Progress, say
from mp.settings import MetaSettings
from mp.table.averages import Accuracies, BySeed

MOST = 4  # processes: each has a CLIP, and its own memory for gradients
QUICK = 1  # seconds: what takes less was there already, and says nothing about what is to come


class Job(NamedTuple):
    """What one of the processes does at a time."""
    what: str          # learn or evaluate
    arm: Arm
    seed: int | None   # None: of words
    dataset: str = ""  # to evaluate on


Found = Accuracies | str | None  # of an evaluation; or what went wrong
Done = tuple[Found, float]       # and how many seconds it took


def command(args: Namespace) -> None:
    """Compute what is missing, and print a table and a sentence for each claim."""
    session, method = open_session(args), method_of(args)
    if set(args.only) != {"a"}:  # which fine-tunes nothing
        settings = finetune_settings(session, method, args.seeds[0])
        for name in session.suite.datasets:
            check_dataset(session, session.suite.load(name), settings)
    wordings = arms.WORDINGS if "a" in args.only else []
    best = findings.best_wording({words: on_training(session, args, words) for words in wordings})
    rows = {claim: arms.comparisons(claim, method, best) for claim in args.only}
    wanted = list(dict.fromkeys(arm for some in rows.values() for row in some for arm in (row.ours, row.theirs)))
    check_results(session, args, [arm for arm in wanted if arm.tuned])
    with workers(session, args) as run:
        found = compute(run, session, wanted, args.seeds)
    for claim, some in rows.items():
        compared = findings.compare(some, lambda arm: found[arm], session.suite.roles)
        notes = notes_of(session, method, some, args.seeds) if claim == "b" else {}
        print(f"({claim}) {arms.TITLES[claim]}: {method}, seeds {' '.join(map(str, args.seeds))}\n")
        print(findings.table(compared, notes), end="\n\n")
        print(findings.sentence(compared, arms.SAID_OF[claim]), end="\n\n")
        if claim == "a":
            print(f'Of {len(wordings)} plain wordings, "{best}" is the best on the tasks of meta-training.\n')
    print(findings.EXPLAINED)


def check_results(session: Session, args: Namespace, tuned: list[Arm]) -> None:
    """Raises UserError, before any work, for a fine-tuning that was made otherwise, of those that start from what is
    there."""
    method = method_of(args)
    for arm, seed in product(tuned, args.seeds):
        if arm.changes is not None and not prompt_file(session, method, arm, seed).exists():
            continue
        prompt, settings = prompt_of(session, method, arm, seed), finetune_settings(session, method, seed)
        for name in session.suite.datasets:
            try:
                check_kept(session, session.load(name), settings, prompt, args.force)
            except UserError as e:
                raise UserError(f"{e} (here --force is for everything; to replace that one, delete it)") from None


def compute(run: Callable, session: Session, wanted: list[Arm], seeds: list[int]) -> dict[Arm, BySeed]:
    """Every arm's accuracies by seed; first the meta-prompts, then prompts as they are, then those that are tuned."""
    learnt: dict[Changes, Arm] = {}
    for arm in wanted:
        if arm.changes is not None:
            learnt.setdefault(arm.changes, arm)  # several arms may have one meta-prompt: it is learnt once
    diverged = set()
    for job, trouble in run("meta-training", [Job("learn", *pair) for pair in product(learnt.values(), seeds)]):
        if trouble:
            diverged.add((job.arm.changes, job.seed))
    found: dict[Arm, BySeed] = {arm: {} for arm in wanted}
    for label, tuned in (("evaluating", False), ("fine-tuning", True)):
        jobs = []
        for arm in wanted:
            for seed in [None] if arm.words is not None else seeds:
                if arm.tuned == tuned and (arm.changes, seed) not in diverged:
                    jobs += [Job("evaluate", arm, seed, name) for name in session.suite.datasets]
        for job, result in run(label, jobs):
            if isinstance(result, dict):
                found[job.arm].setdefault(job.seed, {})[job.dataset] = result
    return found


@contextmanager
def workers(session: Session, args: Namespace) -> Iterator[Callable]:
    """A function that does jobs, all of them before it returns (job, result), in --jobs processes.

    Their own lines go to claims.log below --out.
    """
    count = args.jobs or (1 if session.feed.device.type == "cuda" else min(MOST, os.cpu_count() or 1))
    log = session.out / "claims.log"
    if count == 1:
        yield lambda label, jobs: finished(label, jobs, ((job, do(session, args, job)) for job in jobs))
        return
    say(f"{count} processes; what they say is in {log}")
    do_one = partial(do_alone, tuple(sys.argv[1:]))
    with open_pool(count, log) as run:
        yield lambda label, jobs: finished(label, jobs, run(do_one, jobs))


def finished(label: str, jobs: list[Job], done: Iterable[tuple[Job, Done]]) -> list[tuple[Job, Found]]:
    """Every job with its result, as they come; shows how far it is."""
    progress, found = Progress(label), []
    for job, (result, seconds) in done:
        found.append((job, result))
        words = job.arm.title
        if job.dataset:
            words += f", {job.dataset}"
        if job.seed is not None:
            words += f", seed {job.seed}"
        if isinstance(result, str):
            say(f"{words}: left out: {result}")
        progress.update(len(found), len(jobs), words, new=int(seconds > QUICK))
    return found


@cache
def opened(arguments: tuple[str, ...]) -> tuple[Session, Namespace]:
    """Of a process that does many jobs."""
    args = options.parse(list(arguments), "")
    return open_session(args), args


def do_alone(arguments: tuple[str, ...], job: Job) -> Done:
    return do(*opened(arguments), job)


def do(session: Session, args: Namespace, job: Job) -> Done:
    """The result, and how many seconds it took. Of training that diverged, what went wrong: it's a finding, too."""
    started, result = time.monotonic(), None
    try:
        if job.what == "learn":
            learn(session, settings_of(session, method_of(args), job.arm, job.seed), args.force)
        else:
            result = accuracies(session, args, job.arm, job.dataset, job.seed)
    except RunError as e:
        result = str(e)
    return result, time.monotonic() - started


def on_training(session: Session, args: Namespace, words: str) -> Accuracies:
    """Of a wording, on every dataset that is trained on, whether it is among --datasets or not."""
    arm = Arm(words, words=words)
    return {name: accuracies(session, args, arm, name, None) for name in session.suite.training}


def accuracies(session: Session, args: Namespace, arm: Arm, name: str, seed: int | None) -> dict[str, float]:
    """Of one arm on one dataset; kept, and read again."""
    test = session.test_set(name)
    if arm.words is not None:
        return evaluate(session, test, words_prompt(arm.words) if arm.words else HANDCRAFTED, args.force)
    method = method_of(args)
    prompt = prompt_of(session, method, arm, seed)
    if not arm.tuned:
        return evaluate(session, test, prompt, args.force)
    settings = finetune_settings(session, method, seed)
    return tune_one(session, test, settings, prompt, args.force, lambda *_: None)


def settings_of(session: Session, method: str, arm: Arm, seed: int) -> MetaSettings:
    return replace(session.meta_settings(method, seed), **dict(arm.changes or ()))


def prompt_file(session: Session, method: str, arm: Arm, seed: int) -> Path:
    """Of the arm's meta-prompt."""
    return session.meta_folder(settings_of(session, method, arm, seed)) / "prompt.pt"


def prompt_of(session: Session, method: str, arm: Arm, seed: int) -> Prompt:
    """What is evaluated as it is, or tuned from."""
    settings = settings_of(session, method, arm, seed)
    path = prompt_file(session, method, arm, seed)
    if arm.changes is None:
        given = "handcrafted"
    else:
        given = open_prompt(path) if arm.changes else "meta"
    if arm.tuned:
        return find_init(session, given, finetune_settings(session, method, seed))
    if given != "handcrafted":
        return learnt_prompt(session, given, settings)
    learner = learner_of(settings, session.clip)
    return Prompt(f"start-{method}", None, learner, fingerprint(method, learner.state_dict()), seed)


def notes_of(session: Session, method: str, rows: list[Comparison], seeds: list[int]) -> dict[str, str]:
    """Of the rows about clipping, how large ‖G‖ got and how often it was clipped; of the regulator, its size."""
    notes = {}
    for row in rows:
        arm = row.theirs if row.theirs == arms.REGULATED else row.ours
        files = [prompt_file(session, method, arm, seed) for seed in seeds]
        prompts = [file for file in files if file.exists()]  # or it diverged
        if arm == arms.REGULATED and prompts:
            file = open_prompt(prompts[0])
            own, phi = (sum(p.numel() for p in some.values()) for some in (file.params, file.regulator))
            notes[row.title] = f"{phi:,} numbers more than the prompt's {own:,}"
        elif not row.ours.tuned and row.theirs == arms.HAND:
            settings = settings_of(session, method, row.ours, seeds[0])
            norms = [norm for path in prompts for norm in norms_of(path, settings.epochs)]
            share = sum(norm > settings.clip_norm for norm in norms) / max(1, len(norms))
            notes[row.title] = f"‖G‖ up to {max(norms, default=0):.1f}, clipped in {share:.0%} of epochs"
    return notes


def norms_of(prompt: Path, epochs: int) -> list[float]:
    """‖G‖ of every epoch of the meta-training that made the prompt. Raises UserError if its log isn't whole."""
    log = prompt.with_name("log.jsonl")
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
        if len(lines) != epochs:
            raise ValueError(f"{len(lines)} epochs of {epochs}")
        return [float(json.loads(line)["grad_norm"]) for line in lines]
    except DAMAGE as e:
        advice = "delete its folder, and the same command learns that meta-prompt again"
        raise UserError(unreadable(log, e, "no log of meta-training", advice)) from None
