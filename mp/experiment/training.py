"""Do the work of a job: learn a meta-prompt, fine-tune, compute accuracies. The two loops are made resumable here."""
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from data.dataset import class_range
from mp import regulator
from mp.experiment import arms, places
from mp.experiment.arms import Arm, Job
from mp.experiment.places import Place, PromptPlace
from mp.experiment.session import Session
from mp.finetune import finetune, gaussian_weights
from mp.finetune import start as start_tuning
from mp.learners import METHODS, Learner
from mp.learners.prompts import tokenize_names
from mp.learners.settings import hashed, method_settings
from mp.maml import Params, adam_start, sgd
from mp.meta import meta_train
from mp.meta import start as start_learning
from mp.prompts import PromptFile, is_whole, learner_of, open_prompt, write_prompt
from mp.runtime import files
from mp.runtime.errors import RunError, UserError
from mp.runtime.processes import agree, first_process, meet, processes, total
from mp.runtime.progress import say
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings, in_words
from mp.store import cells, states
from mp.store.states import Log
from mp.tasks import Task, check_divisible, make_task

# A line of a meta-training's log; a task's name and its query loss are among "tasks".
LINE = {"epoch": 0, "query_loss": 0.0, "grad_norm": 0.0, "clipped_norm": 0.0, "tasks": {}, "seconds": 0.0}
Report = Callable[[int, str], None]  # is told after every epoch how many are done, and a text
Loop = Callable[[Any], Iterator[Any]]  # mp/meta.py's or mp/finetune.py's: from a state to those after every epoch


# Learning a meta-prompt

def learn(session: Session, job: Job, force: bool, report: Report) -> None:
    """Learn the meta-prompt of a job's arm, unless it is there."""
    place = places.learnt_place(session, job.arm, job.seed)
    # The first process holds the folder for all of this run; another run waits, then finds the work done.
    with files.locked(place.prompt.with_name(".lock")) if first_process() else nullcontext():
        if force and first_process():
            files.discard(place.state)
        if not agree(lambda: not force and is_there(place)):
            settings = arms.meta_settings(session.suite, job.arm, job.seed)
            say(f"meta-training {place.prompt.parent}: {in_words(hashed(settings))}")
            learner = learner_of(settings, session.clip)
            train(session, learner, make_tasks(session, learner, settings), settings, place, report)
        if first_process():
            files.discard(place.state)
        meet()  # the others read the prompt once it is there


def train(session: Session, learner: Learner, tasks: list[Task], settings: MetaSettings, place: PromptPlace,
          report: Report) -> Params:
    """Meta-train, and return the last epoch's parameters. Writes the settings first, log.jsonl meanwhile, a line an
    epoch, and the prompt at the end. Raises RunError as `run_loop` does."""
    identity = asdict(place.identity)
    if first_process():
        about = {"identity": identity, "provenance": session.provenance}
        files.write_json(place.prompt.with_name("settings.json"), about)
    start = start_learning(learner)
    make_update = sgd  # of line 7
    if settings.regulator:
        make_update = regulator.sgd
        params = start.params | regulator.start(start.params, settings.seed)
        start = start._replace(params=params, adam=adam_start(params))
    loop = partial(meta_train, learner, session.clip, tasks, settings, make_update=make_update, sum_shares=total)
    line = LINE | {"tasks": {task.name: 0.0 for task in tasks}}

    def after_epoch(numbers: dict[str, Any], log: Log) -> None:
        write_log(place, log)
        report(numbers["epoch"], f"query loss {numbers['query_loss']:.4f}  ‖G‖ {numbers['grad_norm']:.4f}")

    state, log = run_loop(session, loop, start, settings.epochs, place, line, after_epoch, together=True)
    write_log(place, log)  # perhaps a kill came between the last epoch's state and its line
    if first_process():
        prompt, phi = regulator.split(state.params)
        write_prompt(place.prompt, settings.method, prompt, identity, session.provenance, phi)
    return state.params


def write_log(place: PromptPlace, log: Log) -> None:
    """Write the log of a meta-training, from the first process."""
    if first_process():
        text = "".join(json.dumps(line) + "\n" for line in log)
        files.write_whole(place.prompt.with_name("log.jsonl"), lambda part: part.write_text(text, encoding="utf-8"))


def make_tasks(session: Session, learner: Learner, settings: MetaSettings) -> list[Task]:
    """Return the training tasks in their order; with torchrun, this process's share, and the names of the others."""
    rank, world = processes()
    tasks = []
    for number, name in enumerate(session.suite.training):
        if number % world != rank:
            tasks.append(Task(name))
            continue
        items, _ = session.draw_shots(name, settings.shots, settings.seed)
        labels = [item.label for item in items]
        classes = session.suite.load(name).classes
        task = make_task(learner, session.clip, name, classes, session.feed.plain(items), labels)
        say_if_too_large(task)
        tasks.append(task)
    return tasks


def say_if_too_large(task: Task) -> None:
    """Say so where parts of a batch can't bound the memory: a second derivative needs one image and all classes."""
    needed = task.image_bytes + task.class_bytes
    if needed > task.memory:
        say(f"{task.name}: one image and its classes take about {needed / 2**30:.2g} GiB, more than --memory; going on "
            "all the same")


# Both loops

def run_loop(session: Session, loop: Loop, start: NamedTuple, epochs: int, place: PromptPlace, line: dict[str, Any],
             after_epoch: Callable[[dict[str, Any], Log], None], together: bool = False) -> tuple[Any, Log]:
    """Run a loop from where an interrupted run stopped, or from its start. Return the last state, and the log.

    After every epoch the state is saved, then `after_epoch` is told the epoch's numbers and the log. `line`: an example
    of what the log has of these numbers. `together`: torchrun's processes run the loop together, and the first one
    saves. Raises RunError for a loss that isn't finite: then the state of the last good epoch, if there is one, stays.
    """
    identity = asdict(place.identity)
    resume = partial(states.resume, place.state, identity, start, epochs, line)
    content, log = agree(resume) if together else resume()
    state = states.placed_like(content, start)
    saves = first_process() or not together
    if saves and not log and place.prompt.exists():
        states.save(place.state, identity, state, log)  # from now on the prompt that is there is the older one
    try:
        for state in loop(state):
            log.append({name: state.numbers[name] for name in line})
            if saves:
                states.save(place.state, identity, state, log)
            session.say_zero_gradients(state.numbers)
            after_epoch(state.numbers, log)
    except RunError as e:
        raise RunError(f"{e}; the state of the last good epoch is kept" if log else str(e)) from None
    return state, log


def is_there(place: PromptPlace) -> bool:
    """Return whether a trained prompt is there and whole, without a newer state beside it. Sets one aside whose content
    is damaged, or another's."""
    if not place.is_finished:
        return False
    if is_whole(place.prompt, asdict(place.identity)):
        return True
    cells.set_aside(place.prompt)
    return False


# Fine-tuning

def tuned_prompt(session: Session, job: Job, place: PromptPlace, force: bool, report: Report) -> PromptFile:
    """Return the prompt fine-tuned on a dataset, trained unless it is there; its state stays beside it."""
    with files.locked(place.prompt.with_name(f".{place.prompt.name}.lock")):
        if force:
            files.discard(place.state)
        if force or not is_there(place):
            tune(session, job, place, report)
        return open_prompt(place.prompt)


def tune(session: Session, job: Job, place: PromptPlace, report: Report) -> None:
    """Fine-tune on the dataset's few-shot images, and write the prompt. Raises RunError as `run_loop` does."""
    arm, seed, dataset = job
    settings, file = arms.tuning_settings(arm, seed), places.prompt_file(session, arm, seed)
    learner = learner_of(settings, session.clip, file)
    names = session.suite.load(dataset).classes
    labels = class_range(len(names), settings.classes)
    classes = session.prepare(learner, names[labels.start : labels.stop])
    items, _ = session.draw_shots(dataset, settings.shots, seed, settings.classes)
    batches = session.feed.augmented(items, settings.batch, settings.seed, dataset)
    phi = {name: value.to(session.clip.logit_scale.device) for name, value in file.regulator.items()} if file else {}
    direction = partial(regulator.regulate, phi) if phi else lambda grads: grads
    loop = partial(finetune, learner, session.clip, classes, batches, settings, direction=direction)

    def after_epoch(numbers: dict[str, Any], log: Log) -> None:
        report(numbers["epoch"], f"loss {numbers['loss']:.4f}")

    start = start_tuning(learner, settings)
    state, log = run_loop(session, loop, start, settings.epochs, place, {"loss": 0.0}, after_epoch)
    about = session.provenance | {"few_shot_images": len(items), "losses": [line["loss"] for line in log]}
    write_prompt(place.prompt, settings.method, state.prompt, asdict(place.identity), about, phi)


# Accuracies

def evaluate(session: Session, job: Job, force: bool, report: Report) -> None:
    """Compute the accuracies of a job's arm on its dataset, fine-tuned before, unless they are there."""
    place = places.place(session, job)

    def compute() -> dict[str, Any]:
        test = session.test_set(job.dataset)
        session.say_unknown(*test.dataset.classes)
        if job.arm.words is not None:
            return {"accuracies": test.handcrafted(place.identity.prompt)}
        if not place.trained:
            return {"accuracies": test.learnt(starting_learner(session, job.arm, job.seed))}
        file = tuned_prompt(session, job, place.trained, force, report)
        learner = learner_of(arms.tuning_settings(job.arm, job.seed), session.clip, file)
        about = file.provenance
        return {"accuracies": test.learnt(learner), "prompt_sha256": file.fingerprint,
                "few_shot_images": about.get("few_shot_images"), "losses": about.get("losses")}

    state = place.trained.state if place.trained else None
    cells.result(place.path, place.identity, session.provenance, compute, force, state)


def starting_learner(session: Session, arm: Arm, seed: int | None) -> Learner:
    """Return the learner of an arm's prompt before fine-tuning. Raises UserError for a file that doesn't fit."""
    return learner_of(settings_of(session, arm, seed), session.clip, places.prompt_file(session, arm, seed))


def settings_of(session: Session, arm: Arm, seed: int | None) -> PromptSettings:
    """Return the settings of an arm's learner. A file's prompt as it is has a shape of its own."""
    if arm.tuned is not None:
        return arms.tuning_settings(arm, seed)
    if arm.learnt is not None:
        return arms.meta_settings(session.suite, arm, seed)
    if arm.file is not None:
        return method_settings(PromptSettings, arm.method, {}, **session.open_prompt(arm.file).shape)
    return arms.start_settings(arm, seed)


# Before any work

def done_before(session: Session, job: Job, place: Place) -> dict[str, Any] | None:
    """Return the provenance of what is there already and will be used; None if the job is to be done."""
    if not job.dataset:
        return session.open_prompt(place.trained.prompt).provenance if is_there(place.trained) else None
    if place.trained and place.trained.state.exists():
        return None
    result = cells.read(place.path)
    return result.content["provenance"] if result else None


def check_prompt(session: Session, arm: Arm, seed: int | None) -> None:
    """Raise UserError for a prompt that doesn't fit; say if it was learnt with other weights, also of accuracies that
    are there. A prompt that the command itself learns need not be there yet."""
    is_learnt_here = arm.learnt is not None and session.learns
    if arm.words is None and not is_learnt_here:
        starting_learner(session, arm, seed)


def check(session: Session, job: Job) -> None:
    """Raise UserError for a job that can't be done: of tasks that can't be divided, class names that are too long, or
    settings or classes that leave nothing to learn."""
    arm, seed, dataset = job
    if not dataset:
        check_tasks(session, arms.meta_settings(session.suite, arm, seed))
    elif arm.words is not None:
        data = session.suite.load(dataset)
        tokenize_names(arm.words or data.template, data.classes)
    else:
        settings = settings_of(session, arm, seed)
        session.check_names(dataset, settings)
        if arm.tuned is not None:
            check_tunable(session, dataset, settings)


def check_tasks(session: Session, settings: MetaSettings) -> None:
    for name in session.suite.training:
        items, _ = session.draw_shots(name, settings.shots, settings.seed)
        check_divisible(name, session.suite.load(name).classes, [item.label for item in items])
        session.check_names(name, settings)


def check_tunable(session: Session, dataset: str, settings: FinetuneSettings) -> None:
    if METHODS[settings.method].averages_epochs:
        gaussian_weights(settings.epochs, settings.gpa_mean, settings.gpa_std)
    count = len(session.suite.load(dataset).classes)
    if len(class_range(count, settings.classes)) < 2:
        raise UserError(f"{dataset}: of its {count} classes less than two are {settings.classes} ones, which leaves "
                        "nothing to learn; give other --datasets, or fine-tune with --classes all (claims: --only a)")
