"""Arms: what accuracies are of. Their settings, and the words in the names of their files.

An arm is a prompt (words, a file, a method's handcrafted start, or what Algorithm 1 makes with some changes of the
usual settings), as it is or fine-tuned. A column of Table 2 is one arm; a comparison is two.
"""
from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

from data.suite import Suite
from mp.learners.settings import method_settings
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings
from mp.store.cells import Result

START = "handcrafted"  # the prompt of an identity where a method starts by itself

Changes = tuple[tuple[str, Any], ...]  # names and values of settings


def changed(**settings: Any) -> Changes:
    return tuple(settings.items())


class Arm(NamedTuple):
    """A prompt, as it is or fine-tuned. With neither words, file nor learnt it is the method's handcrafted start."""
    method: str | None = None      # of the learner; None: words alone
    words: str | None = None       # with {} for the class name; "": each dataset's own template
    file: str | None = None        # a prompt file, as it was given
    learnt: Changes | None = None  # what Algorithm 1 makes with these changes of the usual settings
    tuned: Changes | None = None   # fine-tuned with these changes of the usual settings; None: as it is

    @property
    def seeded(self) -> bool:
        """Whether seeds differ: words are the same for all, and so is a file as it is."""
        return self.tuned is not None or (self.words is None and self.file is None)

    @property
    def untuned(self) -> Arm:
        return self._replace(tuned=None)


HANDCRAFTED = Arm(words="")


def meta_settings(suite: Suite, arm: Arm, seed: int) -> MetaSettings:
    """Return the settings of the arm's meta-learning: its changes, else what is usual for the suite and the method.

    Raises UserError for a setting that plays no part or is out of bounds.
    """
    usual = {"seed": seed}
    if suite.meta_epochs is not None:
        usual["epochs"] = suite.meta_epochs
    return method_settings(MetaSettings, arm.method, dict(arm.learnt or ()), **usual)


def tuning_settings(arm: Arm, seed: int) -> FinetuneSettings:
    """Return the settings of the arm's fine-tuning. Raises UserError as `meta_settings` does."""
    return method_settings(FinetuneSettings, arm.method, dict(arm.tuned or ()), seed=seed)


def start_settings(arm: Arm, seed: int) -> PromptSettings:
    """Return what it takes to make the learner of a method's start."""
    return method_settings(PromptSettings, arm.method, {}, seed=seed)


# Words in names

def meta_words(suite: Suite, arm: Arm, seed: int) -> str:
    """Return the words of a meta-prompt's folder, such as coop-seed1-inner_steps0."""
    return f"{arm.method}-seed{seed}{unusual_learning(suite, arm)}"


def unusual_learning(suite: Suite, arm: Arm) -> str:
    """Return what sets an arm's meta-learning apart from the usual one: changed settings, and other tasks."""
    usual = meta_settings(suite, arm._replace(learnt=()), 1)
    tasks = "-" + "+".join(suite.other_tasks) if suite.other_tasks else ""
    return unusual(meta_settings(suite, arm, 1), usual) + tasks


def unusual(settings: PromptSettings, usual: PromptSettings) -> str:
    ordinary = asdict(usual)
    changes = [f"-{name}{value}" for name, value in asdict(settings).items() if value != ordinary[name]]
    return "".join(changes)


def folder_words(suite: Suite, arm: Arm, fingerprint: str) -> str:
    """Return the words of the folder that an arm's results are in, such as meta-coop, or coop-meta-base of fine-tuned
    ones. `fingerprint`: of its prompt, by which files are told apart.
    """
    if arm.words is not None:
        return f"words-{arm.words.replace(' ', '_')}" if arm.words else "handcrafted"
    if arm.tuned is None:
        if arm.file is not None:
            return f"{arm.method}-{fingerprint[:8]}"
        return f"start-{arm.method}" if arm.learnt is None else f"meta-{arm.method}{unusual_learning(suite, arm)}"
    init = "handcrafted"
    if arm.file is not None:
        init = fingerprint[:12]
    elif arm.learnt is not None:
        init = f"meta{unusual_learning(suite, arm)}"
    settings = tuning_settings(arm, 1)
    usual = tuning_settings(arm._replace(tuned=changed(classes=settings.classes)), 1)
    return f"{arm.method}-{init}-{settings.classes}{unusual(settings, usual)}"


def result_words(dataset: str, seed: int | None) -> str:
    return dataset if seed is None else f"{dataset}-seed{seed}"


# Work, and what comes of it

BySeed = dict[int | None, dict[str, dict[str, float]]]  # seed (None: words have none) -> dataset -> part -> per cent


class Job(NamedTuple):
    """A meta-prompt to learn, or one arm's accuracies on one dataset."""
    arm: Arm
    seed: int | None
    dataset: str = ""  # "": learn

    @property
    def learning(self) -> Job:
        """Return the job that learns the prompt of this one's arm."""
        return Job(self.arm.untuned, self.seed)

    @property
    def verb(self) -> str:
        if not self.dataset:
            return "learns"
        return "evaluates" if self.arm.tuned is None else "tunes"

    @property
    def title(self) -> str:
        words = [self.arm.method or self.arm.words or "handcrafted"]
        if self.dataset:
            words.append(self.dataset)
        if self.seed is not None:
            words.append(f"seed {self.seed}")
        return ", ".join(words)


class Results(NamedTuple):
    """The result of every job; one whose training diverged has none."""
    by_job: dict[Job, Result]

    def by_seed(self, arm: Arm) -> BySeed:
        accuracies: BySeed = {}
        for job, result in self.by_job.items():
            if job.arm == arm:
                accuracies.setdefault(job.seed, {})[job.dataset] = result.accuracies
        return accuracies
