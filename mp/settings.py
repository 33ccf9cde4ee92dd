"""The settings of meta-training and fine-tuning: section 4.2 of the paper.

A field is the one place for a setting's default, bounds and help: the command line's options are made from it. What
differs between the methods has no default here; it stands in the method's row (mp/learners/__init__.py).
"""
import math
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from mp.runtime.errors import UserError

PARTS = ("base", "new", "all")  # of a dataset's classes: the first half, the rest, all of them


def setting(about: str, default: Any = MISSING, *, at_least: float | None = None, above: float | None = None,
            below: float = math.inf, choices: tuple[str, ...] = ()) -> Any:
    """A field with its help text and what it may be: at least, above and below a number, or one of `choices`.

    Only `below=None` allows infinity.
    """
    return field(default=default, kw_only=True, metadata={
        "about": about, "at_least": at_least, "above": above, "below": below, "choices": choices})


@dataclass(frozen=True)
class PromptSettings:
    """What it takes to make a learner."""
    method: str
    seed: int = field(default=1, kw_only=True)
    depth: int = setting("layers with prompts, of methods that have deep ones", 9, at_least=1)
    length: int = setting("vectors in each of them", 4, at_least=1)

    def __post_init__(self):
        """Raises UserError for a value of another type or out of its bounds."""
        for one in fields(self):
            check(one, getattr(self, one.name))


@dataclass(frozen=True)
class MetaSettings(PromptSettings):
    """Of Algorithm 1, in the paper's terms."""
    epochs: int = setting("outer updates; the miniature suite brings a number of its own", 200, at_least=1)
    inner_steps: int = setting("inner updates (line 7); 0 is plain multi-task training", 4, at_least=0)
    inner_lr: float = setting("α (line 7)", above=0)
    meta_lr: float = setting("β (line 10)", 0.001, above=0)
    clip_norm: float = setting("γ (line 10); inf: no clipping", 5.0, above=0, below=None)
    shots: int = setting("N images a class", 16, at_least=2)
    support: int = setting("K of them for the support set (line 4)", 5, at_least=1)
    batch: int = setting("images of an inner update", at_least=1)
    query_batch: int = setting("images of the query loss; 0: the whole query set; -1: as --batch", -1, at_least=-1)
    first_order: bool = setting("first-order MAML: second derivatives are left out", False)
    sum_tasks: bool = setting("G is the sum over tasks, as Algorithm 1 prints, instead of the mean", False)

    def __post_init__(self):
        super().__post_init__()
        if self.shots <= self.support:
            raise UserError(f"--shots {self.shots} leaves no query image beside --support {self.support}; "
                            f"give {self.support + 1} or more")


@dataclass(frozen=True)
class FinetuneSettings(PromptSettings):
    """Of the recipe that the original methods share."""
    classes: str = setting("train on these classes", "base", choices=PARTS)
    epochs: int = setting("passes over the images", at_least=1)
    lr: float = setting("learning rate after the first epoch", above=0)
    batch: int = setting("images of a step", at_least=1)
    shots: int = setting("images a class", 16, at_least=1)
    momentum: float = setting("of SGD", 0.9, at_least=0, below=1)
    weight_decay: float = setting("of SGD, on all that is learnt", 5e-4, at_least=0)
    gpa_mean: float = setting("epoch, counted from 1, that weighs most where the epochs' prompts are averaged", 15.0, above=0)
    gpa_std: float = setting("in epochs, of these weights", 1.0, above=0)


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def allowed(one: Field) -> str:
    """What a setting may be, in words; "" for anything of its type."""
    bounds = one.metadata
    if bounds["choices"]:
        return f"one of {', '.join(bounds['choices'])}"
    if bounds["at_least"] is not None and bounds["below"] != math.inf:
        return f"a number from {bounds['at_least']} to below {bounds['below']}"
    if bounds["at_least"] is not None:
        return f"{bounds['at_least']} or more"
    if bounds["above"] is not None:
        return "a positive number"
    return ""


def check(one: Field, value: Any) -> None:
    """Raises UserError that names the flag and what it may be."""
    good = isinstance(value, (int, float) if one.type is float else one.type)
    if isinstance(value, bool) and one.type is not bool:
        good = False
    if not one.metadata:  # the method, the seed
        bounded = True
    elif one.metadata["choices"]:
        bounded = value in one.metadata["choices"]
    else:
        bounded = good and in_bounds(value, **one.metadata)
    if not (good and bounded):
        raise UserError(f"{flag(one.name)} {value}: out of range; give {allowed(one) or one.type.__name__}")


def in_bounds(value: float, at_least: float | None, above: float | None, below: float | None, **_) -> bool:
    if math.isnan(value) or (at_least is not None and value < at_least) or (above is not None and value <= above):
        return False
    return below is None or value < below


def as_dict(settings: PromptSettings) -> dict[str, Any]:
    """Of plain values that JSON knows: infinity is the string "inf"."""
    return {k: str(v) if v == math.inf else v for k, v in asdict(settings).items()}


def in_words(settings: PromptSettings) -> str:
    """All of them on one line."""
    return ", ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in asdict(settings).items())
