"""All of an experiment's work: what is missing is computed, in one process or shared over several, and read back.

Processes are torchrun's, which learn a meta-prompt together and then share the rest, or a pool of this machine's, of
which each does whole jobs.
"""
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from typing import Any

from mp.experiment import arms, places, training
from mp.experiment.arms import Arm, Job, Results
from mp.experiment.places import Place
from mp.experiment.session import Session, open_session
from mp.prompts import learner_of
from mp.runtime.errors import RunError, UserError
from mp.runtime.pool import open_pool
from mp.runtime.processes import agree, meet, processes
from mp.runtime.progress import Progress, say
from mp.store import cells

QUICK = 1  # seconds: a job that takes less says nothing about how long the others take


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
    with workers(session, args, count, leave_out) as run:
        for verb in ("learns", "evaluates", "tunes"):
            lost |= run([job for job in missing if job.verb == verb and learning_of(job) not in lost])
            training.forget_prompts()  # a pool's processes may have learnt them
    meet()
    by_job = {}
    for job in evaluating:
        if job not in lost and learning_of(job) not in lost:
            by_job[job] = cells.read(places.place(session, *job).path)
    return Results(by_job)


def learning_of(job: Job) -> Job:
    """Return the job that learns the prompt of another job's arm."""
    return Job(job.arm.untuned, job.seed)


# What there is to do

def survey(session: Session, jobs: list[Job], force: bool) -> list[Job]:
    """Return the jobs that aren't done, after saying what there is to do, and checking that it can be done.

    With torchrun the first process decides. Raises UserError if another one's files have other names.
    """
    place_of = {job: find_place(session, job) for job in jobs}
    names = [place.path.name if place else "" for place in place_of.values()]
    if agree(lambda: names) != names:
        raise UserError("the first process has other images, weights or options than this one; all need the same")
    done = {job: done_before(session, job, place_of[job], force) for job in jobs}
    is_missing = agree(lambda: [done[job] is None for job in jobs])
    missing = [job for job, true in zip(jobs, is_missing) if true]
    to_do = Counter(work_of(job, place_of[job], force) for job in missing)
    used = [about for about in done.values() if about is not None]
    say_plan(session, used, to_do, [place_of[job] for job in missing])
    for job in missing:
        check(session, job)
    return missing


def find_place(session: Session, job: Job) -> Place | None:
    """Return where a job's file lies; None for accuracies of a prompt that isn't learnt yet."""
    if not job.dataset:
        return Place(*places.learnt_place(session, job.arm, job.seed))
    waits = session.learns and job.arm.learnt is not None
    if waits and training.learnt_before(session, job.arm.untuned, job.seed) is None:
        return None
    return places.place(session, *job)


def done_before(session: Session, job: Job, place: Place | None, force: bool) -> dict[str, Any] | None:
    """Return the provenance of what is there already and will be used; None if the job is to be done."""
    if force or place is None:
        return None
    if not job.dataset:
        return training.learnt_before(session, job.arm, job.seed)
    result = cells.usable(place.path, state=place.state)
    return result.content["provenance"] if result else None


def work_of(job: Job, place: Place | None, force: bool) -> str:
    """Return what a job takes, in a word: a fine-tuned prompt that is there is only evaluated, on other images."""
    if job.verb == "tunes" and place and not force and place.prompt.exists() and not place.state.exists():
        return "evaluates"
    return job.verb


def say_plan(session: Session, done: list[dict[str, Any]], to_do: Counter[str], missing: list[Place | None]) -> None:
    """Say what will be computed, what is there and will be used, and in what the nearest files differ."""
    parts = [f"{work} {count}" for work, count in to_do.items()]
    if done:
        commit = session.provenance["commit"]
        others = sum(about.get("commit") != commit or commit.endswith("+changes") for about in done)
        parts.append(f"uses {len(done)} that {'are' if len(done) > 1 else 'is'} there")
        if others:
            parts[-1] += f", {others} of another commit or of changed files (--force computes anew)"
    near = Counter()
    for place in filter(None, missing):
        near[cells.nearest(place.path, place.identity)] += 1
    del near[""]
    if near:
        parts.append(f"the nearest that is there differs in {near.most_common(1)[0][0]}")
    say("; ".join(parts))


def check(session: Session, job: Job) -> None:
    """Raise UserError for a job that can't be done."""
    if job.arm.file is not None or (job.arm.learnt is not None and not session.learns):
        check_prompt(session, job.arm, job.seed)
    if not job.dataset:
        training.check_tasks(session, job.arm, job.seed)
    elif job.arm.tuned is not None:
        training.check_tunable(session, job.arm, job.seed, job.dataset)
    else:
        training.check_names(session, job.arm, job.seed, job.dataset)


@cache
def check_prompt(session: Session, arm: Arm, seed: int | None) -> None:
    """Raise UserError for a prompt that is there and doesn't fit."""
    if arm.tuned is None:
        training.untuned_learner(session, arm, seed)
    else:
        learner_of(arms.tuning_settings(arm, seed), session.clip, places.prompt_file(session, arm, seed))


# Doing it

Run = Callable[[list[Job]], set[Job]]  # does jobs of one verb, and returns those whose training diverged


@contextmanager
def workers(session: Session, args: Namespace, count: int, leave_out: bool) -> Iterator[Run]:
    """Yield a function that has jobs done: here, shared with torchrun's processes, or by a pool of `count`."""
    if count == 1:
        yield partial(do_here, session, args.force, leave_out)
        return
    if processes()[1] > 1:
        raise UserError("--jobs: plays no part with torchrun, which brings its processes; leave it out")
    log = session.out / "jobs.log"
    say(f"{count} processes; what they say is in {log}")
    do_one = partial(do_alone, frozen(args), session.learns, leave_out)
    with open_pool(count, log) as run:
        yield lambda jobs: follow(jobs, run(do_one, jobs))


def do_here(session: Session, force: bool, leave_out: bool, jobs: list[Job]) -> set[Job]:
    """Do this process's share of the jobs, one after another, with a line of progress."""
    rank, world = processes()
    if jobs and jobs[0].dataset:
        jobs = jobs[rank::world]
    sizes = [epochs_of(job) for job in jobs]
    progress, lost = Progress("epoch" if sum(sizes) > len(sizes) else "dataset"), set()
    for number, job in enumerate(jobs):
        def report(epoch: int, text: str, new: int) -> None:
            progress.update(sum(sizes[:number]) + epoch, sum(sizes), f"{job.title}{text}", new)

        trouble = do(session, job, force, leave_out, report)
        if trouble:
            say(f"{job.title}: left out: {trouble}")
            lost.add(job)
        if job.verb == "evaluates":
            report(1, "", 1)
    return lost


def epochs_of(job: Job) -> int:
    """Return how long a job is, in lines of progress."""
    return arms.tuning_settings(job.arm, job.seed).epochs if job.verb == "tunes" else 1


def do(session: Session, job: Job, force: bool, leave_out: bool, report: training.Report = lambda *_: None) -> str:
    """Do a job; its result is in its file. Returns "", or with `leave_out` why the training diverged."""
    try:
        if job.dataset:
            training.evaluate(session, job.arm, job.seed, job.dataset, force, report)
        else:
            training.learn(session, job.arm, job.seed, force)
    except RunError as e:
        if not leave_out:
            raise
        return str(e)
    return ""


def do_alone(args: tuple, learns: bool, leave_out: bool, job: Job) -> tuple[str, float]:
    """Do a job in a process of a pool. Returns what `do` does, and how many seconds it took."""
    started = time.monotonic()
    session, force = opened(args, learns), dict(args)["force"]
    return do(session, job, force, leave_out), time.monotonic() - started


@cache
def opened(args: tuple, learns: bool) -> Session:
    """Open the session of a process that does many jobs."""
    return open_session(Namespace(**dict(args)), learns)


def frozen(args: Namespace) -> tuple:
    """Return the command line as what a cache takes for a key, and a process as an argument."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in vars(args).items())


def follow(jobs: list[Job], done: Iterable[tuple[Job, tuple[str, float]]]) -> set[Job]:
    """Show how far the pool's processes are, and return the jobs whose training diverged."""
    progress, lost = Progress(jobs[0].verb if jobs else ""), set()
    for number, (job, (trouble, seconds)) in enumerate(done, 1):
        if trouble:
            say(f"{job.title}: left out: {trouble}")
            lost.add(job)
        progress.update(number, len(jobs), job.title, new=int(seconds > QUICK))
    return lost
