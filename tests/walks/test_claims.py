"""run.py claims as a whole: every difference beside that of the two arms' accuracies, computed with nothing of claims."""
import math
from functools import cache
from statistics import fmean, stdev

import pytest

from tests.walks import outputs, plain
from tests.walks.outputs import PARTS
from tests.walks.printed import shows
from tests.walks.small import LEARNT, load, run

TASK, HELD_OUT, SEEDS = "cars", "general", (1, 2)
CLAIMS = f"claims --method coop --jobs 1 --tasks {TASK} --datasets {TASK} {HELD_OUT} --seeds 1 2"
WORDINGS = ["a photo of a {}.", "an image of a {}.", "a picture of a {}.", "a {}.", "{}.", "this is a {}.",
            "a photo of one {}.", "a good photo of a {}."]
A = LEARNT["inner_lr"]
OTHERS = {"plain multi-task training (no inner steps)": dict(inner_steps=0), "first-order MAML": dict(first_order=True),
          **{f"{n} inner step{'s' if n > 1 else ''}": dict(inner_steps=n) for n in (1, 2, 8)}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("claims")
    return place, run(place, CLAIMS).out


@cache
def learnt(seed, **changes):
    return plain.learnt("coop", seed, (TASK,), **changes)


def half(differences):
    """Of Student's 95% interval with one degree of freedom; equal differences have none."""
    return None if max(differences) - min(differences) < 1e-9 else 12.7062 * stdev(differences) / math.sqrt(2)


def check(rows, wanted):
    """`wanted`: by title, the accuracies of a seed on a dataset, ours and theirs."""
    assert list(rows) == list(wanted)
    for title, (ours, theirs) in wanted.items():
        count, *cells = rows[title]
        assert count == "2"
        places = [(name, part) for name in (TASK, HELD_OUT) for part in PARTS]
        for cell, (name, part) in zip(cells, places, strict=True):
            differences = [ours(seed, name)[part] - theirs(seed, name)[part] for seed in SEEDS]
            assert shows(cell, differences, signed=True, half=half), (title, name, part)


@cache
def of_prompt(seed, name, tuned=False, hand=False, **changes):
    params = plain.start("coop", seed) if hand else learnt(seed, **changes)
    if tuned:
        params, _ = plain.tuned("coop", params, name, seed=seed)
    return plain.accuracies(plain.learner_with("coop", params), name)


def arm(**words):
    return lambda seed, name: of_prompt(seed, name, **words)


@cache
def of_words(words, name):
    return plain.accuracies(words or load(name).template, name)


def test_a_and_c(made):
    """Against words, other ways of learning, and what fine-tuning leaves; the wording is the best on the tasks."""
    place, text = made
    best, *others = (max(WORDINGS, key=lambda words: of_words(words, TASK)[part]) for part in ("all", "base", "new"))
    assert best not in others  # or the test can't tell which classes it is chosen on
    tables = outputs.claim_rows(text)
    assert len(tables) == 3 and f'"{best}" is the best' in text
    usual = arm()
    wanted = {"over handcrafted templates": (usual, lambda seed, name: of_words("", name)),
              f'over "{best}"': (usual, lambda seed, name: of_words(best, name))}
    check(tables[0], wanted | {f"over {title}": (usual, arm(**changes)) for title, changes in OTHERS.items()})
    check(tables[2], {"fine-tuned from handcrafted, over its start": (arm(tuned=True, hand=True), arm(hand=True)),
                      "fine-tuned from the meta-prompt, over it": (arm(tuned=True), arm())})


def test_b(made):
    """Clipping at several α, and a regulator, whose tuned arm is what `finetune` makes of its prompt."""
    place, text = made

    def clipped(rate, norm):
        return arm(**({"inner_lr": A * 24} if rate == 24 else {}) | ({"clip_norm": norm} if norm != 5 else {}))

    def templates(seed, name):
        return of_words("", name)

    @cache
    def regulated(seed, name, tuned=False):
        found = outputs.meta_prompt(place, regulator=True, seed=seed)
        if not tuned:
            return plain.accuracies(plain.learner_with("coop", found.params), name)
        run(place, f"finetune --init {found.path} --seeds {seed} --datasets {name} --out alone{seed}{name}")
        return outputs.result(place / f"alone{seed}{name}", tuned=True).accuracies

    def title(rate, norm):
        return f"γ = {norm:g}" + (", 24 α" if rate == 24 else "")

    wanted = {f"{title(rate, norm)}, over handcrafted templates": (clipped(rate, norm), templates)
              for rate in (1, 24) for norm in (0.2, 1, 5, math.inf)}
    wanted |= {f"{title(rate, norm)}, over {title(rate, math.inf)}": (clipped(rate, norm), clipped(rate, math.inf))
               for rate in (1, 24) for norm in (0.2, 1, 5)}
    wanted["24 α, over α, both unclipped"] = clipped(24, math.inf), clipped(1, math.inf)
    wanted["the meta-prompt, over an unclipped regulator's"] = arm(), regulated
    wanted["the meta-prompt fine-tuned, over the regulator's through it"] = (
        arm(tuned=True), lambda seed, name: regulated(seed, name, True))
    rows = outputs.claim_rows(text)[1]
    check(rows, wanted)
    for rate, norm in ((1, 0.2), (24, 5), (24, math.inf)):
        log = [line["grad_norm"] for seed in SEEDS for found in outputs.meta_prompts(place / "runs", seed=seed, regulator=False, inner_steps=3, first_order=False)
               for line in found.log if found.content["identity"]["settings"]["inner_lr"] == A * rate
               and float(found.content["identity"]["settings"]["clip_norm"]) == norm]
        share = fmean(value > norm for value in log)
        line, = [line for line in text.splitlines() if line.startswith(f"{title(rate, norm)}, over handcrafted")]
        assert line.endswith(f"‖G‖ up to {max(log):.1f}, clipped in {share:.0%} of epochs")


@pytest.mark.parametrize("claim", "abc")
def test_a_claim_alone(claim, made):
    place, text = made
    alone = run(place, f"{CLAIMS} --only {claim}").out
    assert outputs.claim_rows(alone) == [outputs.claim_rows(text)["abc".index(claim)]]
    start = alone.index(f"({claim}) ")
    assert alone[start : alone.index("± is half")] in text and "coop, seeds 1 2" in alone
