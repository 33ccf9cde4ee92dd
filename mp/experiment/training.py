"""The two loops made resumable, locked, logged and shown: learning a meta-prompt, and fine-tuning on a dataset."""
import copy
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from data.dataset import class_range
from mp import regulator
from mp.experiment import arms, places
from mp.experiment.arms import Arm
from mp.experiment.places import Place
from mp.experiment.session import Session
from mp.finetune import finetune, gaussian_weights
from mp.finetune import start as start_tuning
from mp.learners import METHODS, Learner
from mp.learners.prompts import tokenize_names
from mp.learners.settings import hashed, method_settings
from mp.maml import adam_start, sgd
from mp.meta import meta_train
from mp.meta import start as start_learning
from mp.prompts import PromptFile, is_whole, learner_of, open_prompt, write_prompt
from mp.runtime import files
from mp.runtime.errors import RunError, UserError
from mp.runtime.processes import agree, first_process, meet, processes, total
from mp.runtime.progress import Progress, say
from mp.settings import MetaSettings, PromptSettings, in_words
from mp.store import cells, states
from mp.store.cells import Identity
from mp.tasks import Task, check_divisible, make_task

# A line of a meta-training's log; a task's name and its query loss are among "tasks".
LINE = {"epoch": 0, "query_loss": 0.0, "grad_norm": 0.0, "clipped_norm": 0.0, "tasks": {}, "seconds": 0.0}
Report = Callable[[int, str, int], None]  # epochs done, a text, and how many of them are new since the last call


# Learning a meta-prompt

def check_tasks(session: Session, arm: Arm, seed: int) -> None:
    """Raise UserError, before any work, for tasks that can't be divided, or class names that don't fit."""
    settings = arms.meta_settings(session.suite, arm, seed)
    for name in session.suite.training:
        items, _ = session.draw_shots(name, settings.shots, seed)
        check_divisible(name, session.suite.load(name).classes, [item.label for item in items])
        session.check_names(name, settings)


def learn(session: Session, arm: Arm, seed: int, force: bool = False) -> Path:
    """Return the file of the arm's meta-prompt, trained unless it is there."""
    folder, identity = places.learnt_place(session, arm, seed)
    prompt, state = learnt_files(session, folder)
    # The first process holds the folder for all of this run; another run waits, then finds the work done.
    with files.locked(folder / ".lock") if first_process() else nullcontext():
        if force and first_process():
            files.discard(state)
        if not agree(lambda: not force and not state.exists() and is_there(prompt, identity)):
            train(session, arm, seed, identity, prompt, state)
        if first_process():
            files.discard(state)
        meet()  # the others read the prompt once it is there
    forget_prompts()
    return prompt


def forget_prompts() -> None:
    """Let meta-prompts be read from their files again, as they may have been learnt anew."""
    learnt_before.cache_clear()
    Session.open_prompt.cache_clear()


def learnt_files(session: Session, folder: Path) -> tuple[Path, Path]:
    """Return the file of a meta-prompt, and that of the state of a run that isn't finished, which is newer."""
    return folder / "prompt.pt", folder / f"state-{session.machine}.pt"


@cache
def learnt_before(session: Session, arm: Arm, seed: int) -> dict[str, Any] | None:
    """Return the provenance of the arm's meta-prompt; None if it isn't there."""
    folder, identity = places.learnt_place(session, arm, seed)
    prompt, state = learnt_files(session, folder)
    if state.exists() or not is_there(prompt, identity):
        return None
    return session.open_prompt(prompt).provenance


def is_there(prompt: Path, identity: Identity) -> bool:
    """Whether a prompt file is there and whole; one whose content is damaged, or another's, is set aside."""
    if not prompt.exists():
        return False
    if is_whole(prompt, asdict(identity)):
        return True
    cells.set_aside(prompt)
    return False


def train(session: Session, arm: Arm, seed: int, identity: Identity, prompt: Path, state_file: Path) -> None:
    """Meta-train; write the settings first, a log meanwhile, and the prompt at the end."""
    settings = arms.meta_settings(session.suite, arm, seed)
    say(f"meta-training {prompt.parent}: {in_words(hashed(settings))}")
    learner = learner_of(settings, session.clip)
    tasks = make_tasks(session, learner, settings)
    progress = Progress("epoch")

    def report(numbers: dict[str, Any]) -> None:
        session.say_zero_gradients(numbers)
        shown = f"query loss {numbers['query_loss']:.4f}  ‖G‖ {numbers['grad_norm']:.4f}"
        progress.update(numbers["epoch"], settings.epochs, shown, new=1)

    if first_process():
        about = {"identity": asdict(identity), "provenance": session.provenance}
        files.write_json(prompt.parent / "settings.json", about)
    params = train_and_save(session, learner, tasks, settings, asdict(identity), state_file, report)
    if first_process():
        own, phi = regulator.split(params)
        write_prompt(prompt, settings.method, own, asdict(identity), session.provenance, phi)


def train_and_save(session: Session, learner: Learner, tasks: list[Task], settings: MetaSettings,
                   identity: dict[str, Any], state_file: Path, report: Callable[[dict[str, Any]], None]) -> dict:
    """Run Algorithm 1 from where an interrupted run stopped; `report` gets every epoch's numbers. Returns the last
    epoch's parameters.

    Keeps a state, and log.jsonl beside it, a line an epoch. Raises RunError for a loss that isn't finite: then the
    state of the last good epoch stays.
    """
    fresh = start_learning(learner)
    make_update = sgd
    if settings.regulator:
        make_update = regulator.sgd
        params = fresh.params | regulator.start(fresh.params, settings.seed)
        fresh = fresh._replace(params=params, adam=adam_start(params))
    line = LINE | {"tasks": {task.name: 0.0 for task in tasks}}
    resumed, log = agree(lambda: states.resume(state_file, identity, fresh, settings.epochs, line))
    state = states.placed_like(resumed, fresh)
    if log and first_process():
        write_log(state_file.parent, log)  # perhaps a kill came between an epoch's state and its line
    if not log and first_process() and state_file.with_name("prompt.pt").exists():
        states.save(state_file, identity, state, log)  # from now on the prompt that is there is the older one
    try:
        for state in meta_train(learner, session.clip, tasks, settings, state, make_update, sum_shares=total):
            log.append({name: state.numbers[name] for name in LINE})
            if first_process():
                states.save(state_file, identity, state, log)  # first, as the log is written again from it
                write_log(state_file.parent, log)
            report(state.numbers)
    except RunError as e:
        raise RunError(f"{e}; the state of the last good epoch is kept") from None
    return state.params


def write_log(folder: Path, log: states.Log) -> None:
    text = "".join(json.dumps(line) + "\n" for line in log)
    files.write_whole(folder / "log.jsonl", lambda part: part.write_text(text, encoding="utf-8"))


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


# Fine-tuning

def check_tunable(session: Session, arm: Arm, seed: int, dataset: str) -> None:
    """Raise UserError, before any work, if a class name doesn't fit, there is nothing to tell apart, or the average
    over epochs has no weight."""
    settings = arms.tuning_settings(arm, seed)
    if METHODS[arm.method].averages_epochs:
        gaussian_weights(settings.epochs, settings.gpa_mean, settings.gpa_std)
    session.check_names(dataset, settings)
    count = len(session.suite.load(dataset).classes)
    if len(class_range(count, settings.classes)) < 2:
        raise UserError(f"{dataset}: of its {count} classes less than two are {settings.classes} ones, which leaves "
                        "nothing to learn; give other --datasets, or fine-tune with --classes all (claims: --only a)")


def tuned_prompt(session: Session, arm: Arm, seed: int, dataset: str, place: Place, force: bool,
                 report: Report) -> PromptFile:
    """Return the arm's prompt fine-tuned on a dataset, trained unless it is there; its state stays beside it."""
    with files.locked(place.prompt.with_name(f".{place.prompt.name}.lock")):
        if force:
            files.discard(place.state)
        if force or place.state.exists() or not is_there(place.prompt, place.learnt_from):
            tune(session, arm, seed, dataset, place, report)
        return open_prompt(place.prompt)


def tune(session: Session, arm: Arm, seed: int, dataset: str, place: Place, report: Report) -> None:
    """Fine-tune on the dataset's few-shot images, with a state after every epoch, and write the prompt.

    Raises RunError for a loss that isn't finite: then the state of the last good epoch stays.
    """
    settings = arms.tuning_settings(arm, seed)
    file = places.prompt_file(session, arm, seed)
    learner = copy.deepcopy(learner_of(settings, session.clip, file))
    names = session.suite.load(dataset).classes
    labels = class_range(len(names), settings.classes)
    classes = session.prepare(learner, names[labels.start : labels.stop])
    items, _ = session.draw_shots(dataset, settings.shots, seed, settings.classes)
    batches = session.feed.augmented(items, settings.batch, settings.seed, dataset)
    phi = {name: value.to(session.clip.logit_scale.device) for name, value in file.regulator.items()} if file else {}
    direction = partial(regulator.regulate, phi) if phi else lambda grads: grads
    identity, fresh = asdict(place.learnt_from), start_tuning(learner, settings)
    resumed, log = states.resume(place.state, identity, fresh, settings.epochs, {"loss": 0.0})
    state = states.placed_like(resumed, fresh)
    if not log and place.prompt.exists():
        states.save(place.state, identity, state, log)  # from now on the prompt that is there is the older one
    try:
        for state in finetune(learner, session.clip, classes, batches, settings, state, direction):
            log.append({"loss": state.numbers["loss"]})
            states.save(place.state, identity, state, log)
            session.say_zero_gradients(state.numbers)
            report(state.epoch, f", loss {state.numbers['loss']:.4f}", 1)
    except RunError as e:
        raise RunError(f"{dataset}, {e}; the state of the last good epoch is kept") from None
    about = session.provenance | {"few_shot_images": len(items), "losses": [line["loss"] for line in log]}
    write_prompt(place.prompt, settings.method, state.prompt, identity, about, phi)


# Accuracies

def evaluate(session: Session, arm: Arm, seed: int | None, dataset: str, force: bool = False,
             report: Report = lambda *_: None) -> cells.Result:
    """Return the accuracies of an arm on a dataset, tuned and computed unless they are there."""
    place = places.place(session, arm, seed, dataset)

    def compute() -> dict[str, Any]:
        test = session.test_set(dataset)
        session.say_unknown(*test.dataset.classes)
        if arm.words is not None:
            return {"accuracies": test.handcrafted(place.identity.prompt)}
        if arm.tuned is None:
            return {"accuracies": test.learnt(untuned_learner(session, arm, seed))}
        file = tuned_prompt(session, arm, seed, dataset, place, force, report)
        learner = learner_of(arms.tuning_settings(arm, seed), session.clip, file)
        about = file.provenance
        return {"accuracies": test.learnt(learner), "prompt_sha256": file.fingerprint,
                "few_shot_images": about.get("few_shot_images"), "losses": about.get("losses")}

    return cells.result(place.path, place.identity, session.provenance, compute, force, place.state)


def check_names(session: Session, arm: Arm, seed: int | None, dataset: str) -> None:
    """Raise UserError, before any work, for class names that don't fit beside an arm's prompt as it is."""
    data = session.suite.load(dataset)
    if arm.words is not None:
        tokenize_names(arm.words or data.template, data.classes)
    else:
        session.check_names(dataset, untuned_settings(session, arm, seed))


def untuned_learner(session: Session, arm: Arm, seed: int | None) -> Learner:
    """Return the learner of an arm's prompt before fine-tuning. Raises UserError for a file that doesn't fit."""
    settings = untuned_settings(session, arm, seed)
    return learner_of(settings, session.clip, places.prompt_file(session, arm, seed))


def untuned_settings(session: Session, arm: Arm, seed: int | None) -> PromptSettings:
    """Return the settings of an arm's prompt before fine-tuning; a file's shape is its own."""
    if arm.learnt is not None:
        return arms.meta_settings(session.suite, arm, seed)
    if arm.file is not None:
        return method_settings(PromptSettings, arm.method, {}, **session.open_prompt(arm.file).shape)
    return arms.start_settings(arm, seed)
