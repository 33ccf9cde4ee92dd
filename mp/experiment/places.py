"""The files of an arm: where its prompts and its accuracies lie, and what they depend on."""
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from mp.experiment import arms
from mp.experiment.arms import START, Arm, Job
from mp.experiment.session import Session
from mp.prompts import PromptFile
from mp.runtime.errors import UserError
from mp.settings import flag
from mp.store import cells
from mp.store.cells import Identity


class PromptPlace(NamedTuple):
    """Say where a trained prompt lies, what it depends on, and where an unfinished training leaves its state."""
    prompt: Path
    identity: Identity
    state: Path  # newer than a prompt beside it

    @property
    def is_finished(self) -> bool:
        return self.prompt.exists() and not self.state.exists()


class Place(NamedTuple):
    """Say where what a job makes lies: a meta-prompt's folder, or the file of an arm's accuracies."""
    path: Path
    identity: Identity                  # what it depends on
    trained: PromptPlace | None = None  # the prompt that the job trains; None: of a prompt as it is


def place(session: Session, job: Job) -> Place:
    """Return the place of what a job makes. For accuracies, the prompt has to be there, as its tensors name them."""
    if not job.dataset:
        learnt = learnt_place(session, job.arm, job.seed)
        return Place(learnt.prompt.parent, learnt.identity, learnt)
    arm, seed, dataset = job
    prompt, meta = start_of(session, job)
    kind = "zeroshot" if arm.tuned is None else "finetune"
    folder = session.out / kind / cells.shortened(arms.folder_words(session.suite, arm, prompt))
    words, trained = arms.result_words(dataset, seed), None
    if arm.tuned is None:
        settings = arms.start_settings(arm, seed) if prompt == START else None
        identity = session.identity(prompt, settings, meta=meta)
    else:
        settings = arms.tuning_settings(arm, seed)
        _, images = session.draw_shots(dataset, settings.shots, seed, settings.classes)
        identity = session.identity(prompt, settings, {dataset: images}, meta)
        trained = PromptPlace(folder / cells.name_of(words, identity, ".prompt.pt"), identity,
                              folder / cells.name_of(words, identity, f".state-{session.machine}.pt"))
    identity = replace(identity, tested_on=session.tested_on(dataset))
    return Place(folder / cells.name_of(words, identity, ".json"), identity, trained)


def start_of(session: Session, job: Job) -> tuple[str, dict[str, Any] | None]:
    """Return what names the prompt of a job's arm before fine-tuning, its words or its fingerprint, and the identity of
    the meta-prompt that it is, if it is one."""
    if job.arm.words is not None:
        return job.arm.words or session.suite.load(job.dataset).template, None
    file = prompt_file(session, job.arm, job.seed)
    if file is None:
        return START, None
    return file.fingerprint, file.identity if job.arm.learnt is not None else None


def prompt_file(session: Session, arm: Arm, seed: int | None) -> PromptFile | None:
    """Return the file that the arm's prompt, before fine-tuning, is in; None for words and a method's start."""
    if arm.file is not None:
        return session.open_prompt(arm.file)
    if arm.learnt is None:
        return None
    if session.learns:
        return session.open_prompt(learnt_place(session, arm, seed).prompt)
    return session.open_prompt(find_learnt(session, arm, seed))


def learnt_place(session: Session, arm: Arm, seed: int) -> PromptPlace:
    """Return the place of the arm's meta-prompt. It takes the training images to know that."""
    settings = arms.meta_settings(session.suite, arm, seed)
    images = {}
    for name in session.suite.training:
        _, images[name] = session.draw_shots(name, settings.shots, seed)
    identity = session.identity(START, settings, images)
    folder = session.out / "meta" / cells.name_of(arms.meta_words(session.suite, arm, seed), identity)
    return PromptPlace(folder / "prompt.pt", identity, folder / f"state-{session.machine}.pt")


def find_learnt(session: Session, arm: Arm, seed: int) -> Path:
    """Return the file of the arm's meta-prompt: the one that agrees in all that can be known without training images.

    Raises UserError if there are several; or none, with one that is near and the command that makes it.
    """
    words = arms.meta_words(session.suite, arm, seed)
    folder, tasks = session.out / "meta", session.suite.training
    wanted = asdict(session.identity(START, arms.meta_settings(session.suite, arm, seed)))
    fitting, near = [], ""
    for path in cells.siblings(folder, cells.shortened(words)):
        prompt = path / "prompt.pt"
        if not prompt.is_file():
            continue
        identity = session.open_prompt(prompt).identity
        images = identity.get("trained_on")
        same_tasks = isinstance(images, dict) and images.keys() == set(tasks)
        differing = cells.differences(identity, wanted | {"trained_on": images if same_tasks else dict.fromkeys(tasks)})
        if not differing and not path.name.endswith(cells.digits_of(identity)):  # it was renamed, or the file changed
            differing = ["what its name says"]
        if differing:
            near = f"; {path.name} differs in {', '.join(differing[:3])}"
        else:
            fitting.append(prompt)
    if len(fitting) == 1:
        prompt, = fitting
        if any(prompt.parent.glob("state-*.pt")):
            session.say_once(f"{prompt}: is being learnt anew, or was and isn't finished; the older prompt is used")
        return prompt
    if fitting:
        paths = ", ".join(map(str, fitting))
        raise UserError(f"several meta-prompts would fit: {paths}; give one as a file, or move the others away")
    if not near:
        prompts = sorted(folder.glob(f"{arm.method}-seed{seed}-*/prompt.pt"))
        if there := [prompt for prompt in prompts if prompt.is_file()]:
            near = f"; there is {there[0]}, whose path can be given instead"
    raise UserError(f"{folder}: no meta-prompt {words}{near}; make it with: {learning_command(session, arm, seed)}")


def learning_command(session: Session, arm: Arm, seed: int) -> str:
    """Return the command line that learns the arm's meta-prompt."""
    words = ["python", "run.py", "meta", "--method", arm.method, "--seeds", str(seed)]
    for name, value in arm.learnt:
        words += [flag(name)] if value is True else [flag(name), str(value)]
    return shlex.join([*words, *session.options])
