"""run.py claims as a whole: every difference beside that of the two arms' accuracies, computed with nothing of claims."""
import math
from functools import cache
from statistics import fmean, stdev

import pytest
from PIL import Image

from tests.walks import outputs, plain
from tests.walks.outputs import PARTS
from tests.walks.printed import claim_rows, shows
from tests.walks.small import LEARNT, load, run

TASK, HELD_OUT = "cars", "general"
CLAIMS = f"claims --method coop --jobs 1 --tasks {TASK} --datasets {TASK} {HELD_OUT}"
WORDINGS = ["a photo of a {}.", "an image of a {}.", "a picture of a {}.", "a {}.", "{}.", "this is a {}.",
            "a photo of one {}.", "a good photo of a {}."]
A = LEARNT["inner_lr"]
OTHERS = {"plain multi-task training (no inner steps)": dict(inner_steps=0), "first-order MAML": dict(first_order=True),
          **{f"{n} inner step{'s' if n > 1 else ''}": dict(inner_steps=n) for n in (1, 2, 8)}}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A folder with claims (a) and (c) of two seeds, and what was printed."""
    place = tmp_path_factory.mktemp("claims")
    return place, run(place, f"{CLAIMS} --only a c --seeds 1 2").out


@cache
def learnt(seed, **changes):
    return plain.learnt("coop", seed, (TASK,), **changes)


def half(differences):
    """Return half of Student's 95% interval with one degree of freedom; equal differences have none."""
    return None if max(differences) - min(differences) < 1e-9 else 12.7062 * stdev(differences) / math.sqrt(2)


def check(rows, wanted, seeds):
    """Hold a table to `wanted`: by title, the accuracies of a seed on a dataset, ours and theirs."""
    assert list(rows) == list(wanted)
    for title, (ours, theirs) in wanted.items():
        count, *cells = rows[title]
        assert count == str(len(seeds))
        places = [(name, part) for name in (TASK, HELD_OUT) for part in PARTS]
        for cell, (name, part) in zip(cells, places, strict=True):
            differences = [ours(seed, name)[part] - theirs(seed, name)[part] for seed in seeds]
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


def best_by(measure):
    """Return the wording with the best accuracy on the task, of "all" classes or others."""
    return max(WORDINGS, key=lambda words: of_words(words, TASK)[measure])


def test_a_and_c(computed):
    """Against words, other ways of learning, and what fine-tuning leaves."""
    _, text = computed
    best, usual = best_by("all"), arm()
    first, second = claim_rows(text)
    wanted = {"over handcrafted templates": (usual, lambda seed, name: of_words("", name)),
              f'over "{best}"': (usual, lambda seed, name: of_words(best, name))}
    check(first, wanted | {f"over {title}": (usual, arm(**changes)) for title, changes in OTHERS.items()}, (1, 2))
    check(second, {"fine-tuned from handcrafted, over its start": (arm(tuned=True, hand=True), arm(hand=True)),
                   "fine-tuned from the meta-prompt, over it": (arm(tuned=True), arm())}, (1, 2))


def test_the_wording_is_the_best_on_the_tasks_whatever_is_evaluated_on(computed):
    place, text = computed
    best = best_by("all")
    assert best not in (best_by("base"), best_by("new"))  # or the test can't tell which classes it is chosen on
    assert best != max(WORDINGS, key=lambda words: of_words(words, HELD_OUT)["all"])
    said = f'Of 8 plain wordings, "{best}" is the best on the tasks of meta-training.'
    assert said in text
    assert said in run(place, f"claims --method coop --jobs 1 --tasks {TASK} --only a --datasets {HELD_OUT}").out


def test_b(computed):
    """Clipping at several α, and a regulator, whose tuned arm is what `finetune` makes of its prompt; beside the other
    claims of a seed alone, of which nothing is shown."""
    place, _ = computed
    text = run(place, f"{CLAIMS} --seeds 2").out
    assert len(claim_rows(text)) == 3 and text.count("one seed, so nothing is shown") == 4  # (c) says two

    def clipped(rate, norm):
        return arm(**({"inner_lr": A * 24} if rate == 24 else {}) | ({"clip_norm": norm} if norm != 5 else {}))

    def templates(seed, name):
        return of_words("", name)

    @cache
    def regulated(seed, name, tuned=False):
        prompt = outputs.meta_prompt(place, regulator=True)
        if not tuned:
            return plain.accuracies(plain.learner_with("coop", prompt.params), name)
        run(place, f"finetune --init {prompt.path} --seeds {seed} --datasets {name} --out alone{name}")
        return outputs.result(place / f"alone{name}", tuned=True).accuracies

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
    check(claim_rows(text)[1], wanted, (2,))
    for rate, norm in ((1, 0.2), (24, 5), (24, math.inf)):
        settings = dict(seed=2, inner_lr=A * rate, clip_norm=str(norm) if norm == math.inf else norm)
        prompt = outputs.meta_prompt(place / "runs", regulator=False, inner_steps=3, first_order=False, **settings)
        norms = [line["grad_norm"] for line in prompt.log]
        share = fmean(value > norm for value in norms)
        line, = [line for line in text.splitlines() if line.startswith(f"{title(rate, norm)}, over handcrafted")]
        assert line.endswith(f"‖G‖ up to {max(norms):.1f}, clipped in {share:.0%} of epochs")


def test_what_is_only_evaluated_may_have_two_classes(computed):
    """Of which one is base and one new: fine-tuning has nothing to tell apart, but claim (a) doesn't fine-tune."""
    place, _ = computed
    for word in ("cat", "dog"):
        for number in range(4):
            file = place / "mine" / word / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (60 * number, 90, 20)).save(file)
    command = CLAIMS.replace(f"--datasets {TASK} {HELD_OUT}", "--datasets mine")
    assert "over first-order MAML" in run(place, f"{command} --only a").out
    assert "(claims: --only a)" in run(place, f"{command} --only c", 2).err
