"""The files of an arm: where its accuracies lie, and the prompts that they are of."""
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from mp.experiment import arms
from mp.experiment.arms import START, Arm
from mp.experiment.session import Session
from mp.prompts import PromptFile
from mp.runtime.errors import UserError
from mp.settings import flag
from mp.store import cells
from mp.store.cells import Identity

class Place(NamedTuple):
    """Where an arm's accuracies on a dataset lie, and what they depend on."""
    path: Path
    identity: Identity
    prompt: Path | None = None           # the fine-tuned prompt
    learnt_from: Identity | None = None  # what it depends on: the same without the test images
    state: Path | None = None            # what an unfinished fine-tuning leaves


def learnt_place(session: Session, arm: Arm, seed: int) -> tuple[Path, Identity]:
    """Return the folder of the arm's meta-prompt, and what it depends on. It takes the training images to know that."""
    settings = arms.meta_settings(session.suite, arm, seed)
    images = {name: session.draw_shots(name, settings.shots, seed)[1] for name in session.suite.training}
    identity = session.identity(START, settings, images)
    return session.out / "meta" / cells.name_of(arms.meta_words(session.suite, arm, seed), identity), identity


def find_learnt(session: Session, arm: Arm, seed: int) -> Path:
    """Return the file of the arm's meta-prompt: the one that agrees in all that can be known without training images.

    Raises UserError if there is none, with the command that makes it, or if there are several.
    """
    words = arms.meta_words(session.suite, arm, seed)
    wanted = asdict(session.identity(START, arms.meta_settings(session.suite, arm, seed)))
    fitting, differing = [], []
    for folder in cells.siblings(session.out / "meta" / words):
        if (folder / "prompt.pt").is_file():
            identity = session.open_prompt(folder / "prompt.pt").identity
            known = wanted | {"trained_on": images_of_tasks(identity, session.suite.training)}
            places = cells.differences(identity, known)
            if not places and not folder.name.endswith(cells.digits_of(identity)):
                places = ["what its name says"]
            if places:
                differing.append(f"{folder.name} differs in {', '.join(places[:3])}")
            else:
                fitting.append(folder / "prompt.pt")
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        paths = ", ".join(map(str, fitting))
        raise UserError(f"several meta-prompts would fit: {paths}; give one as a file, or move the others away")
    words += "".join(f"; {difference}" for difference in differing[:1])
    command = learning_command(session, arm, seed)
    raise UserError(f"{session.out / 'meta'}: no meta-prompt {words}; make it with: {command}")


def images_of_tasks(identity: dict[str, Any], tasks: list[str]) -> dict[str, Any]:
    """Return the images that a meta-prompt was trained on, as its file says, if its tasks are these."""
    trained_on = identity.get("trained_on")
    if isinstance(trained_on, dict) and set(trained_on) == set(tasks):
        return trained_on
    return dict.fromkeys(tasks)


def learning_command(session: Session, arm: Arm, seed: int) -> str:
    words = ["python", "run.py", "meta", "--method", arm.method, "--seeds", str(seed)]
    for name, value in arm.learnt:
        words += [flag(name)] if value is True else [flag(name), str(value)]
    return shlex.join([*words, *session.options])


def prompt_file(session: Session, arm: Arm, seed: int | None) -> PromptFile | None:
    """Return the file that the arm's prompt, before fine-tuning, is in; None for words and a method's start."""
    if arm.file is not None:
        return session.open_prompt(arm.file)
    if arm.learnt is None:
        return None
    if session.learns:
        return session.open_prompt(learnt_place(session, arm, seed)[0] / "prompt.pt")
    return session.open_prompt(find_learnt(session, arm, seed))


def place(session: Session, arm: Arm, seed: int | None, dataset: str) -> Place:
    """Return where the arm's accuracies on a dataset lie."""
    file = prompt_file(session, arm, seed)
    prompt, meta, settings = START, None, None
    if arm.words is not None:
        prompt = arm.words or session.suite.load(dataset).template
    elif file is None:
        settings = arms.start_settings(arm, seed)
    else:
        prompt = file.fingerprint
        meta = file.identity if arm.learnt is not None else None
    kind = "zeroshot" if arm.tuned is None else "finetune"
    folder = session.out / kind / cells.shortened(arms.folder_words(session.suite, arm, prompt))
    words, tested_on = arms.result_words(dataset, seed), session.tested_on(dataset)
    if arm.tuned is None:
        identity = replace(session.identity(prompt, settings, meta=meta), tested_on=tested_on)
        return Place(folder / cells.name_of(words, identity, ".json"), identity)
    settings = arms.tuning_settings(arm, seed)
    _, images = session.draw_shots(dataset, settings.shots, seed, settings.classes)
    learnt_from = session.identity(prompt, settings, {dataset: images}, meta)
    identity = replace(learnt_from, tested_on=tested_on)
    return Place(folder / cells.name_of(words, identity, ".json"), identity,
                 folder / cells.name_of(words, learnt_from, ".prompt.pt"), learnt_from,
                 folder / cells.name_of(words, learnt_from, f".state-{session.machine}.pt"))
