"""What the paper's claims are tried on: prompts of every kind, and which of them are compared."""
import math
from itertools import product
from typing import Any, NamedTuple

from mp.learners import METHODS
from mp.settings import MetaSettings

# Plain wordings, which name no style and no dataset. The best is chosen on the training datasets, all classes.
WORDINGS = ["a photo of a {}.", "an image of a {}.", "a picture of a {}.", "a {}.", "{}.", "this is a {}.",
            "a photo of one {}.", "a good photo of a {}."]
RATES = (1, 24)  # times the paper's α; 24 is what its 1/6 and its 4 steps divide by
CLIPS = (0.2, 1.0, 5.0, math.inf)


Changes = tuple[tuple[str, Any], ...]  # names and values of settings


def changed(**settings: Any) -> Changes:
    return tuple(settings.items())


class Arm(NamedTuple):
    """Something whose accuracies are compared: words, or a learner's prompt as it is or fine-tuned."""
    title: str
    words: str | None = None           # with {} for the class; "": each dataset's own template
    changes: Changes | None = None  # of the usual meta-learning; None: the handcrafted start, not meta-learnt
    tuned: bool = False


class Comparison(NamedTuple):
    """A row of a claim's table: how much better `ours` is than `theirs`."""
    title: str
    ours: Arm
    theirs: Arm


HAND = Arm("handcrafted templates", words="")
START = Arm("the handcrafted start")
MP = Arm("the meta-prompt", changes=changed())
TUNED_H, TUNED_MP = START._replace(tuned=True), MP._replace(tuned=True)
REGULATED = Arm("a regulator", changes=changed(regulator=True, clip_norm=math.inf))
SAID_OF = {"a": ("all",), "b": ("all",), "c": ("base", "new")}  # parts that a claim is about
TITLES = {"a": "meta-prompts beat handcrafted ones on unseen datasets",
          "b": "clipping is what makes it work, not a learnt regulator",
          "c": "what fine-tuning leaves of a prompt"}


def others() -> list[Arm]:
    """Ways of learning the prompt that the meta-prompt is compared with."""
    return [Arm("plain multi-task training (no inner steps)", changes=changed(inner_steps=0)),
            Arm("first-order MAML", changes=changed(first_order=True)),
            Arm("1 inner step", changes=changed(inner_steps=1)),
            Arm("2 inner steps", changes=changed(inner_steps=2)),
            Arm("8 inner steps", changes=changed(inner_steps=8))]


def clipped(method: str, rate: int, clip_norm: float) -> Arm:
    """With another α and γ; of the usual ones, what is left as it is isn't named."""
    changes = {}
    if rate != 1:
        changes["inner_lr"] = rate * METHODS[method].meta["inner_lr"]
    if clip_norm != MetaSettings.clip_norm:
        changes["clip_norm"] = clip_norm
    title = f"γ = {clip_norm:g}"
    if rate != 1:
        title += f", {rate} α"
    return Arm(title, changes=changed(**changes))


def comparisons(claim: str, method: str, wording: str) -> list[Comparison]:
    """The rows of a claim's table; `wording`: the best of WORDINGS."""
    if claim == "a":
        rows = [HAND, Arm(f'"{wording}"', words=wording), *others()]
        return [Comparison(f"over {arm.title}", MP, arm) for arm in rows]
    if claim == "c":
        return [Comparison("fine-tuned from handcrafted, over its start", TUNED_H, START),
                Comparison("fine-tuned from the meta-prompt, over it", TUNED_MP, MP)]
    rows = []
    for rate, clip_norm in product(RATES, CLIPS):
        arm = clipped(method, rate, clip_norm)
        rows.append(Comparison(f"{arm.title}, over handcrafted templates", arm, HAND))
    for rate in RATES:
        unclipped = clipped(method, rate, math.inf)
        for clip_norm in CLIPS[:-1]:
            arm = clipped(method, rate, clip_norm)
            rows.append(Comparison(f"{arm.title}, over {unclipped.title}", arm, unclipped))
    rows.append(Comparison("24 α, over α, both unclipped", clipped(method, 24, math.inf), clipped(method, 1, math.inf)))
    rows.append(Comparison("the meta-prompt, over an unclipped regulator's", MP, REGULATED))
    through_it = "the meta-prompt fine-tuned, over the regulator's through it"
    return [*rows, Comparison(through_it, TUNED_MP, REGULATED._replace(tuned=True))]
