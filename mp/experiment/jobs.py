"""Do all of an experiment's work: what is missing is computed, in one process or shared over several, and read back.

Processes are torchrun's, which learn a meta-prompt together and then share the rest, or a pool of this machine's, of
which each does whole jobs.
"""
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any

from mp.experiment import arms, places, training
from mp.experiment.arms import Arm, Job, Results
from mp.experiment.places import Place
from mp.experiment.session import Session, open_session
from mp.runtime.errors import RunError, UserError
from mp.runtime.pool import open_pool
from mp.runtime.processes import agree, meet, processes
from mp.runtime.progress import Progress, say
from mp.store import cells

QUICK = 1  # seconds: a job that takes less says nothing about how long the others take
opened: list[Session] = []  # in a process of a pool: the session of all its jobs


def do_all(session: Session, args: Namespace, wanted: Iterable[Arm], count: int = 1, leave_out: bool = False,
           datasets: Sequence[str] | None = None) -> Results:
    """Return the results of all arms on the datasets (None: the suite's), for every seed of `args`, computing what is
    missing.

    `count`: processes of a pool. `leave_out`: go on without the jobs whose training diverges, instead of ending with
    RunError. Before any work it says what there is to do, and raises UserError for what can't be done.
    """
    wanted = list(dict.fromkeys(wanted))
    learning = []
    if session.learns:  # several arms may start from the same meta-prompt
        learnt = dict.fromkeys(arm.untuned for arm in wanted if arm.learnt is not None)
        learning = [Job(arm, seed) for arm, seed in product(learnt, args.seeds)]
    evaluating = []
    for dataset, arm in product(datasets or session.suite.datasets, wanted):
        evaluating += [Job(arm, seed, dataset) for seed in (args.seeds if arm.seeded else [None])]
    missing = survey(session, [*learning, *evaluating], args.force)
    lost: set[Job] = set()
    with open_pool_of(session, count if missing else 1) as pool:
        for verb in ("learns", "evaluates", "tunes"):
            jobs = [job for job in missing if job.verb == verb and job.learning not in lost]
            if pool:
                do_one = partial(do_in_pool, args, session.learns, leave_out)
                lost |= follow(jobs, pool(do_one, jobs))
            else:
                lost |= do_here(session, jobs, args.force, leave_out).keys()
            session.forget_prompts()
    meet()
    by_job = {}
    for job in evaluating:
        if job not in lost and job.learning not in lost:
            by_job[job] = cells.read(places.place(session, job).path)
            if by_job[job] is None:
                raise RunError(f"{job.title}: its result is gone, or its prompt was learnt anew meanwhile by another "
                               "command; give the same command again")
    return Results(by_job)


# Doing it

def do_here(session: Session, jobs: list[Job], force: bool, leave_out: bool) -> dict[Job, str]:
    """Do this process's share of jobs of one verb, one after another, with a line of progress. Return those whose
    training diverged, and why."""
    rank, world = processes()
    if jobs and jobs[0].dataset:  # torchrun's processes learn together
        jobs = jobs[rank::world]
    sizes = [epochs_of(session, job) for job in jobs]
    progress = Progress("dataset" if jobs and jobs[0].verb == "evaluates" else "epoch")
    lost, done = {}, 0
    for job, size in zip(jobs, sizes):
        def report(epoch: int, text: str) -> None:
            progress.update(done + epoch, sum(sizes), ", ".join(filter(None, [job.title, text])), new=1)

        if trouble := do(session, job, force, leave_out, report):
            say(f"{job.title}: left out: {trouble}")
            lost[job] = trouble
        if job.verb == "evaluates":
            report(1, "")
        done += size
    return lost


def epochs_of(session: Session, job: Job) -> int:
    """Return how long a job is, in lines of progress."""
    if job.verb == "evaluates":
        return 1
    return training.settings_of(session, job.arm, job.seed).epochs


def do(session: Session, job: Job, force: bool, leave_out: bool, report: training.Report) -> str:
    """Do a job; its result is in its file. Return "", or with `leave_out` why the training diverged."""
    try:
        if job.dataset:
            training.evaluate(session, job, force, report)
        else:
            training.learn(session, job, force, report)
    except RunError as e:
        if not leave_out:
            raise RunError(f"{job.title}: {e}") from None
        return str(e)
    return ""


def open_pool_of(session: Session, count: int) -> Any:
    """Return the context of a pool of `count` processes; of None for a single one. Raises UserError with torchrun."""
    if count == 1:
        return nullcontext()
    if processes()[1] > 1:
        raise UserError("--jobs: plays no part with torchrun, which brings its processes; leave it out")
    log = session.out / "jobs.log"
    say(f"{count} processes; what they say is in {log}")
    return open_pool(count, log)


def do_in_pool(args: Namespace, learns: bool, leave_out: bool, job: Job) -> tuple[str, float]:
    """Do a job in a process of a pool. Return why its training diverged, or "", and how many seconds it took."""
    started = time.monotonic()
    if not opened:
        opened.append(open_session(args, learns))
    lost = do_here(opened[0], [job], args.force, leave_out)
    return lost.get(job, ""), time.monotonic() - started


def follow(jobs: list[Job], done: Iterable[tuple[Job, tuple[str, float]]]) -> set[Job]:
    """Show how far the pool's processes are, and return the jobs whose training diverged."""
    progress, lost = Progress(jobs[0].verb if jobs else ""), set()
    for number, (job, (trouble, seconds)) in enumerate(done, 1):
        if trouble:
            say(f"{job.title}: left out: {trouble}")
            lost.add(job)
        progress.update(number, len(jobs), job.title, new=int(seconds > QUICK))
    return lost


# What there is to do

def survey(session: Session, jobs: list[Job], force: bool) -> list[Job]:
    """Return the jobs that aren't done, after saying what there is to do, and checking that it can be done. Those that
    learn come first.

    With torchrun the first process decides. Raises UserError if another one's files have other names.
    """
    place_of: dict[Job, Place] = {}  # not of accuracies whose meta-prompt isn't there yet
    done: dict[Job, dict[str, Any] | None] = {}
    for job in jobs:
        if job.dataset and done.get(job.learning, {}) is None:
            done[job] = None
            continue
        place_of[job] = places.place(session, job)
        done[job] = None if force else training.done_before(session, job, place_of[job])
    names = [place.path.name for place in place_of.values()]
    if agree(lambda: names) != names:
        raise UserError("the first process has other images, weights or options than this one; all need the same")
    is_missing = agree(lambda: [done[job] is None for job in jobs])
    missing = [job for job, true in zip(jobs, is_missing) if true]
    say_plan(session, missing, place_of, [about for about in done.values() if about is not None], force)
    for arm, seed in dict.fromkeys((job.arm, job.seed) for job in jobs):
        training.check_prompt(session, arm, seed)
    for job in missing:
        training.check(session, job)
    return missing


def say_plan(session: Session, missing: list[Job], place_of: dict[Job, Place], used: list[dict[str, Any]],
             force: bool) -> None:
    """Say what will be computed, what is there and will be used, and in what the nearest files differ. `used`: the
    provenance of each."""
    to_do, near = Counter(), Counter()
    for job in missing:
        place, verb = place_of.get(job), job.verb
        if verb == "tunes" and place and place.trained.is_finished and not force:
            verb = "evaluates"  # a fine-tuned prompt that is there, on other images
        to_do[verb] += 1
        if place:
            near[cells.nearest(place.path, place.identity)] += 1
    parts = [f"{verb} {count}" for verb, count in to_do.items()]
    if used:
        commit = session.provenance["commit"]
        others = sum(about.get("commit") != commit or commit.endswith("+changes") for about in used)
        parts.append(f"uses {len(used)} that {'are' if len(used) > 1 else 'is'} there")
        if others:
            parts[-1] += f", {others} of another commit or of changed files (--force computes anew)"
    del near[""]
    if near:
        parts.append(f"the nearest that is there differs in {near.most_common(1)[0][0]}")
    say("; ".join(parts))
