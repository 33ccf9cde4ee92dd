"""run.py meta: Algorithm 1 (mp/meta.py) made resumable, locked, logged and shown."""
import json
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from data.dataset import Item
from mp import regulator
from mp.clip.model import CLIP
from mp.commands.options import given_settings
from mp.commands.session import Session, method_of, open_session
from mp.commands.zeroshot import compare, learnt_prompt
from mp.learners import Learner
from mp.maml import adam_start, sgd
from mp.meta import MetaState, meta_train, start
from mp.prompts import learner_of, open_prompt
from mp.runtime import files
from mp.runtime.errors import RunError
from mp.runtime.processes import agree, first_process, meet, processes, total
from mp.runtime.progress import Progress, say
from mp.settings import MetaSettings, as_dict, in_words
from mp.store import promptfile, results, states
from mp.store.identity import Identity, require_same, stored
from mp.tasks import Task, check_divisible, make_task

KIND = "meta-prompt"
LINE = {"epoch": 0, "query_loss": 0.0, "grad_norm": 0.0, "clipped_norm": 0.0, "tasks": {}, "seconds": 0.0}  # of the log


def command(args: Namespace) -> None:
    """Train one meta-prompt per seed, or take it from an earlier run, then compare them with the handcrafted prompt."""
    session = open_session(args)
    given = given_settings(MetaSettings, args)  # which win over the suite's, the method's and the fields' defaults
    runs = [session.meta_settings(method_of(args), seed, given) for seed in args.seeds]
    prompts = []
    for settings in runs:
        path = learn(session, settings, args.force)
        is_usual = path == results.meta_prompt(session.tasks_out, settings.method, settings.seed)
        prompts.append(learnt_prompt(session, "meta" if is_usual else open_prompt(path), settings))
    if first_process():
        title = session.meta_folder(runs[0]).name.removesuffix(f"-seed{runs[0].seed}")
        compare(session, {title: prompts}, args.force)


def learn(session: Session, settings: MetaSettings, force: bool = False) -> Path:
    """The prompt file of these settings, trained unless it is there. Raises UserError if it was made otherwise."""
    folder = session.meta_folder(settings)
    prompt = folder / "prompt.pt"
    state = folder / "state.pt"  # of a run that isn't finished; it may be there beside an older prompt
    images = session.task_images(settings)
    for name, items in images.items():
        check_divisible(name, session.suite.load(name).classes, [item.label for item in items])
    identity = session.identity(settings, trained_on=images)
    # The first process holds the folder for all of this run; another run waits, then finds the work done.
    with files.locked(folder / ".lock") if first_process() else nullcontext():
        if force and first_process():
            files.discard(state)
        if agree(lambda: prompt.exists() and not state.exists() and not force):
            require_same(prompt, promptfile.read_file(prompt).get("identity"), KIND, identity)
            say(f"{prompt} is there; --force computes it again")
        else:
            train(session, settings, images, identity, folder)
        if first_process():
            files.discard(state)
    return prompt


def train(session: Session, settings: MetaSettings, images: dict[str, list[Item]], identity: Identity,
          folder: Path) -> None:
    """Meta-train on the images, which are by dataset; writes the settings first, and the prompt at the end."""
    say(f"meta-training {folder}: {in_words(as_dict(settings))}")
    learner = learner_of(settings, session.clip)
    for name in session.suite.training + session.suite.datasets:
        session.check_names(session.suite.load(name), settings)
    tasks = make_tasks(session, learner, images)
    progress = Progress("epoch")

    def report(numbers: dict[str, Any]) -> None:
        session.say_zero_gradients(numbers)
        shown = f"query loss {numbers['query_loss']:.4f}  ‖G‖ {numbers['grad_norm']:.4f}"
        progress.update(numbers["epoch"], settings.epochs, shown, new=1)

    made_from = stored(KIND, identity)
    if first_process():
        files.write_json(folder / "settings.json", {"identity": made_from, "provenance": session.provenance})
    state = train_and_save(learner, session.clip, tasks, settings, identity, folder, report)
    if first_process():
        params, phi = regulator.split(state.params)
        promptfile.write(folder / "prompt.pt", settings.method, params, made_from, session.provenance, phi)
    meet()  # the others read the prompt once it is there


def train_and_save(learner: Learner, clip: CLIP, tasks: list[Task], settings: MetaSettings, identity: Identity,
                   folder: Path, report: Callable[[dict[str, Any]], None]) -> MetaState:
    """Algorithm 1, from where an interrupted run in `folder` stopped; `report` gets every epoch's numbers.

    Keeps state.pt and log.jsonl, a line per epoch. Raises UserError for a state that was made otherwise or is
    damaged, and RunError for a loss that isn't finite: then the state of the last good epoch stays.
    """
    file = folder / "state.pt"
    fresh = start(learner)
    make_update = sgd
    if settings.regulator:
        make_update = regulator.sgd
        params = fresh.params | regulator.start(fresh.params, settings.seed)
        fresh = fresh._replace(params=params, adam=adam_start(params))
    line = LINE | {"tasks": {task.name: 0.0 for task in tasks}}
    found, log = agree(lambda: states.resume(file, KIND, identity, fresh, settings.epochs, line))
    state = states.placed_like(found, fresh)
    if log and first_process():
        write_log(folder, log)  # perhaps a kill came between an epoch's state and its line
    try:
        for state in meta_train(learner, clip, tasks, settings, state, make_update, sum_shares=total):
            log.append({name: state.numbers[name] for name in LINE})
            if first_process():
                states.save(file, KIND, identity, state, log)  # first, as the log is written again from it
                write_log(folder, log)
            report(state.numbers)
    except RunError as e:
        raise RunError(f"{e}; the state of the last good epoch is kept") from None
    return state


def write_log(folder: Path, log: states.Log) -> None:
    """A line per epoch."""
    text = "".join(json.dumps(line) + "\n" for line in log)
    files.write_whole(folder / "log.jsonl", lambda part: part.write_text(text, encoding="utf-8"))


def make_tasks(session: Session, learner: Learner, images: dict[str, list[Item]]) -> list[Task]:
    """The training tasks in their order; with torchrun, this process's share of them, and the names of the others."""
    rank, world = processes()
    tasks = []
    for number, (name, items) in enumerate(images.items()):
        if number % world == rank:
            labels = [item.label for item in items]
            classes = session.suite.load(name).classes
            task = make_task(learner, session.clip, name, classes, session.feed.plain(items), labels)
            say_if_too_large(task)
            tasks.append(task)
        else:
            tasks.append(Task(name))
    return tasks


def say_if_too_large(task: Task) -> None:
    """Parts of a batch bound the memory only down to one image, and to all classes: a second derivative needs them."""
    needed = task.image_bytes + task.class_bytes
    if needed > task.memory:
        say(f"{task.name}: one image and its classes take about {needed / 2**30:.2g} GiB, more than --memory; going on "
            "all the same")
