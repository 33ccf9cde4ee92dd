"""The comparisons that put the paper's claims to the test: two arms and a title each."""
import math
from itertools import product
from typing import NamedTuple

from mp.experiment.arms import HANDCRAFTED, Arm, changed
from mp.learners import METHODS
from mp.settings import MetaSettings

# Plain wordings, which name no style and no dataset. The best is chosen on the training datasets, all classes.
WORDINGS = ["a photo of a {}.", "an image of a {}.", "a picture of a {}.", "a {}.", "{}.", "this is a {}.",
            "a photo of one {}.", "a good photo of a {}."]
RATES = (1, 24)  # times the paper's α; 24 is what its 1/6 and its 4 steps divide by
CLIPS = (0.2, 1.0, 5.0, math.inf)
LEARNT_OTHERWISE = {  # ways of learning the prompt that the meta-prompt is compared with
    "plain multi-task training (no inner steps)": changed(inner_steps=0),
    "first-order MAML": changed(first_order=True),
    "1 inner step": changed(inner_steps=1),
    "2 inner steps": changed(inner_steps=2),
    "8 inner steps": changed(inner_steps=8),
}
SAID_OF = {"a": ("all",), "b": ("all",), "c": ("base", "new")}  # parts that a claim is about
TITLES = {"a": "meta-prompts beat handcrafted ones on unseen datasets",
          "b": "clipping is what makes it work, not a learnt regulator",
          "c": "what fine-tuning leaves of a prompt"}


class Comparison(NamedTuple):
    """A row of a claim's table: how much better `ours` is than `theirs`."""
    title: str
    ours: Arm
    theirs: Arm


def comparisons(claim: str, method: str, wording: str) -> list[Comparison]:
    """Return the rows of a claim's table; `wording`: the best of WORDINGS."""
    if claim == "a":
        return of_prompts(method, wording)
    return of_clipping(method) if claim == "b" else of_tuning(method)


def of_prompts(method: str, wording: str) -> list[Comparison]:
    """Compare the meta-prompt with words, and with what is learnt otherwise."""
    others = {"handcrafted templates": HANDCRAFTED, f'"{wording}"': Arm(words=wording)}
    others |= {title: Arm(method, learnt=changes) for title, changes in LEARNT_OTHERWISE.items()}
    ours = Arm(method, learnt=changed())
    return [Comparison(f"over {title}", ours, theirs) for title, theirs in others.items()]


def of_tuning(method: str) -> list[Comparison]:
    """Compare what is fine-tuned with what it started from."""
    start, learnt = Arm(method), Arm(method, learnt=changed())
    return [Comparison("fine-tuned from handcrafted, over its start", tuned(start), start),
            Comparison("fine-tuned from the meta-prompt, over it", tuned(learnt), learnt)]


def of_clipping(method: str) -> list[Comparison]:
    """Compare meta-prompts of several α and γ with handcrafted templates, and with the unclipped; the usual one also
    with a regulator's."""
    rows = []
    for rate, clip_norm in product(RATES, CLIPS):
        title = f"{in_symbols(rate, clip_norm)}, over handcrafted templates"
        rows.append(Comparison(title, clipped(method, rate, clip_norm), HANDCRAFTED))
    for rate, clip_norm in product(RATES, CLIPS[:-1]):
        title = f"{in_symbols(rate, clip_norm)}, over {in_symbols(rate, math.inf)}"
        rows.append(Comparison(title, clipped(method, rate, clip_norm), clipped(method, rate, math.inf)))
    usual_rate, high_rate = (clipped(method, rate, math.inf) for rate in RATES)
    learnt, other = Arm(method, learnt=changed()), regulated(method)
    return [*rows, Comparison("24 α, over α, both unclipped", high_rate, usual_rate),
            Comparison("the meta-prompt, over an unclipped regulator's", learnt, other),
            Comparison("the meta-prompt fine-tuned, over the regulator's through it", tuned(learnt), tuned(other))]


def clipped(method: str, rate: int, clip_norm: float) -> Arm:
    """Return the meta-prompt with α times `rate`, and another γ. Usual values aren't named: they are no changes."""
    changes = {}
    if rate != 1:
        changes["inner_lr"] = rate * METHODS[method].meta["inner_lr"]
    if clip_norm != MetaSettings.clip_norm:
        changes["clip_norm"] = clip_norm
    return Arm(method, learnt=changed(**changes))


def in_symbols(rate: int, clip_norm: float) -> str:
    return f"γ = {clip_norm:g}" if rate == 1 else f"γ = {clip_norm:g}, {rate} α"


def regulated(method: str) -> Arm:
    """Return the meta-prompt learnt through a regulator (mp/regulator.py), unclipped."""
    return Arm(method, learnt=changed(regulator=True, clip_norm=math.inf))


def tuned(arm: Arm) -> Arm:
    """Return the same, fine-tuned as usual."""
    return arm._replace(tuned=changed())
