"""Define the settings of meta-training and fine-tuning: section 4.2 of the paper.

A field is the one place for a setting's default, bounds and help; the command line's options are made from it. What
section 4.2 sets for each method apart has no default here, or one that the method's row (mp/learners/__init__.py)
replaces.
"""
import math
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NamedTuple

from mp.runtime.errors import UserError

GPA_SHARE = 15 / 20  # of the epochs: where PromptSRC's average over them has its mean
OUT = "runs"  # the folder that results go to, unless --out says otherwise
LARGEST = 3.4e38  # of float32's numbers
PARTS = ("base", "new", "all")  # of a dataset's classes: the first half, the rest, all of them


def with_harmonic_mean(accuracies: dict[str, float]) -> dict[str, float]:
    """Add H = 2·base·new / (base + new), by which the field ranks methods, to a dataset's or an average's parts that
    have both.

    >>> with_harmonic_mean({"base": 60.0, "new": 30.0})["harmonic_mean"]
    40.0
    """
    if not {"base", "new"} <= accuracies.keys():
        return accuracies
    base, new = accuracies["base"], accuracies["new"]
    return accuracies | {"harmonic_mean": 2 * base * new / (base + new) if base + new else 0.0}


class Bound(NamedTuple):
    """Say what a setting may be."""
    words: str
    holds: Callable[[Any], bool]


def at_least(least: int) -> Bound:
    return Bound(f"{least} or more", lambda value: least <= value < math.inf)


NOT_NEGATIVE = Bound(f"0 or more, up to {LARGEST}", lambda value: 0 <= value <= LARGEST)
POSITIVE = Bound(f"a positive number up to {LARGEST}", lambda value: 0 < value <= LARGEST)
POSITIVE_OR_INFINITE = Bound(f"{POSITIVE.words}, or inf", lambda value: POSITIVE.holds(value) or value == math.inf)
SHARE = Bound("a number from 0 to below 1", lambda value: 0 <= value < 1)
EPOCHS = Bound("1 or more, up to 1,000,000", lambda value: 1 <= value <= 10**6)
ONE_PART = Bound(f"one of {', '.join(PARTS)}", lambda value: value in PARTS)
ON_OFF = Bound("True or False", lambda value: True)


# Other settings with which a setting plays no part.
NO_INNER_STEP = Bound("--inner-steps 0", lambda chosen: chosen.inner_steps == 0)
QUERY_ALONE = Bound("--inner-steps 0 and a --query-batch", lambda chosen: NO_INNER_STEP.holds(chosen)
                    and chosen.query_batch >= 0)
ONE_EPOCH = Bound("--epochs 1", lambda chosen: chosen.epochs == 1)


def setting(about: str, bound: Bound, default: Any = MISSING, only_if: str = "", unless: Bound | None = None,
            born: Any = MISSING) -> Any:
    """Define a field, with its help text and what it may be.

    `only_if`: what a method must have for it to play a part: averages_epochs, or made_with, which must list this field.
    `unless`: other settings beside which it does nothing. Whoever gives it where it does nothing is told so by
    mp/learners/settings.py. `born`: the first default of a field that came later, at which files are named as before.
    """
    return field(default=default, kw_only=True,
                 metadata={"about": about, "bound": bound, "only_if": only_if, "unless": unless, "born": born})


@dataclass(frozen=True)
class PromptSettings:
    """Hold what it takes to make a learner."""
    method: str
    seed: int = field(default=1, kw_only=True)
    depth: int = setting("layers with prompts, of methods that have deep ones; in shallower towers all", at_least(1), 9,
                         "made_with")
    length: int = setting("context vectors, in each of these layers; more than 4 start at random", at_least(1), 4,
                          "made_with")

    def __post_init__(self):
        """Raise UserError for a value of another type or out of its bounds, which names the flag and says what it may
        be."""
        for member in fields(self):
            value = getattr(self, member.name)
            fits = is_a(member.type, value)
            bound = member.metadata.get("bound", Bound(member.type.__name__, lambda value: True))  # method and seed
            if not fits or not bound.holds(value):
                shown = str(value)[:40] if fits else repr(value)  # '3' is no number
                raise UserError(f"{flag(member.name)} {shown}: out of range; give {bound.words}")


@dataclass(frozen=True)
class MetaSettings(PromptSettings):
    """Hold Algorithm 1's settings, in the paper's terms."""
    epochs: int = setting("outer updates; the miniature suite brings a number of its own", EPOCHS, 200)
    inner_steps: int = setting("inner updates (line 7); 0 is plain multi-task training", at_least(0), 4)
    inner_lr: float = setting("α (line 7)", POSITIVE, unless=NO_INNER_STEP)  # each method's row in METHODS has its own
    meta_lr: float = setting("β (line 10)", POSITIVE, 0.001)
    clip_norm: float = setting("γ (line 10); inf: no clipping", POSITIVE_OR_INFINITE, 5.0)
    shots: int = setting("N images a class", at_least(2), 16)
    support: int = setting("K of them for the support set (line 4)", at_least(1), 5)
    batch: int = setting("images of an inner update", at_least(1), unless=QUERY_ALONE)
    query_batch: int = setting("images of the query loss; 0: the whole query set; -1: as --batch", at_least(-1), -1)
    first_order: bool = setting("first-order MAML: second derivatives are left out", ON_OFF, False,
                                unless=NO_INNER_STEP)
    regulator: bool = setting("a gradient regulator: a small network between inner gradients and steps, learnt with "
                              "the prompt and kept in its file", ON_OFF, False, unless=NO_INNER_STEP)
    sum_tasks: bool = setting("G is the sum over tasks, as Algorithm 1 prints, not the mean", ON_OFF, False)

    def __post_init__(self):
        super().__post_init__()
        if self.shots <= self.support:
            raise UserError(f"--shots {self.shots} leaves no query image beside --support {self.support}; "
                            f"give {self.support + 1} or more")


@dataclass(frozen=True)
class FinetuneSettings(PromptSettings):
    """Hold the settings of the recipe that the original methods share."""
    classes: str = setting("train on these classes", ONE_PART, "base")
    epochs: int = setting("passes over the images", EPOCHS)
    lr: float = setting("learning rate after the first epoch", POSITIVE, unless=ONE_EPOCH)
    batch: int = setting("images of a step", at_least(1))
    shots: int = setting("images a class", at_least(1), 16)
    momentum: float = setting("of SGD", SHARE, 0.9)
    weight_decay: float = setting("of SGD, on all that is learnt", NOT_NEGATIVE, 5e-4)
    gpa_mean: float = setting("epoch, counted from 1, that weighs most where prompts are averaged; of methods that do "
                              "so it is 15 of 20 epochs, 150 of 200 and so on", POSITIVE, 15.0, "averages_epochs",
                              ONE_EPOCH)
    gpa_std: float = setting("in epochs, of these weights, however many epochs there are", POSITIVE, 1.0,
                             "averages_epochs", ONE_EPOCH)

    def __post_init__(self):
        """Turn a `gpa_mean` of None, as in a method's row, into a number: at the paper's share of the epochs."""
        if self.gpa_mean is None and isinstance(self.epochs, int):
            epochs = min(self.epochs, sys.maxsize)  # more are no float
            object.__setattr__(self, "gpa_mean", GPA_SHARE * epochs)
        super().__post_init__()


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def is_a(kind: type, value: Any) -> bool:
    """Return whether the value is of a setting's type: True is no number, a whole number may stand for a float."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float)) if kind is float else isinstance(value, kind)


def in_words(values: dict[str, Any]) -> str:
    """Return settings, as a file has them, on one line."""
    return ", ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in values.items())
