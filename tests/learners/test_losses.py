"""The learners' whole losses, and the meta-gradients through them, against tests/learners/plain.py, in float64."""
import pytest
import torch

from mp import maml, regulator
from mp.clip import derivatives
from mp.clip.model import CLIP
from mp.runtime.device import MEMORY
from tests.golden import recipe, recipe_m
from tests.learners import plain
from tests.learners.test_learners import golden_learner
from tests.learners.test_maple import learner_of
from tests.test_maml import relatively_near, through_all_steps
from tests.test_regulator import a_regulator

CASES = {"coop": plain.coop, "cocoop": plain.cocoop, "promptsrc3": plain.promptsrc, "promptsrc2": plain.promptsrc,
         "maple3": plain.maple, "maple1": plain.maple, "maple2+ctx": plain.maple, "ivlp_v3x1_t2x2": plain.ivlp}
NAMES = recipe.CLASSES["A"][:4]  # of different lengths
NEAR = 1e-9  # of a tensor's largest entry


@pytest.fixture(scope="module")
def clip64():
    sizes = recipe.CONFIGS["A"]
    clip = CLIP(sizes["image"], sizes["patch"], sizes["v_width"], sizes["v_layers"], sizes["t_width"],
                sizes["t_layers"], sizes["embed"])
    clip.load_state_dict({name: torch.as_tensor(value) for name, value in recipe.clip_state("A").items()})
    return clip.double().requires_grad_(False)


class Both:
    """A learner's loss, mp's on what its `prepare` and `inputs` give, and the plain one on the same images."""

    def __init__(self, case, clip, clip64):
        learner = learner_of(case, clip) if case in recipe_m.cases("A") else golden_learner(case, clip, recipe)
        self.learner = learner.double()
        self.clip, self.plainly = clip64, CASES[case]
        self.classes = self.learner.prepare(clip64, NAMES)
        self.params = {name: p.detach() for name, p in self.learner.named_parameters()}
        self.passes = 0

    def part(self, name, count, skip=0):
        """Images and labels."""
        images = torch.from_numpy(recipe.images("A", name, skip + count)).double()[skip:]
        return images, torch.from_numpy(recipe.labels("A", name, skip + count, len(NAMES)))[skip:]

    def batch(self, name):
        """Three images, as parts of two and one."""
        return [(self.part(name, 2), 2 / 3), (self.part(name, 1, skip=2), 1 / 3)]

    def ours(self, params, part):
        images, labels = part
        self.passes += 1
        return maml.run(self.learner, params, self.clip, self.classes, *self.learner.inputs(self.clip, images), labels)

    def theirs(self, params, part):
        return self.plainly(params, NAMES, *part)


@pytest.fixture(params=CASES)
def both(request, clip, clip64, monkeypatch):
    monkeypatch.setattr(clip64, "memory", MEMORY)
    return Both(request.param, clip, clip64)


@pytest.fixture
def second_derivatives(monkeypatch):
    """Counts the layer norm's, so that the way which is tested is the one that meta-training takes."""
    backward, calls = derivatives.NormGradient.backward, []

    def counted(*args):
        calls.append(1)
        return backward(*args)

    monkeypatch.setattr(derivatives.NormGradient, "backward", staticmethod(counted))
    return calls


def line_7(p, grad):
    return {k: p[k] - 0.05 * grad[k] for k in p}


def chunks_of(both):
    return len(getattr(both.classes, "prompts", both.classes).chunks)


def test_the_loss_is_the_formula(both):
    """And so is its first derivative, of every tensor."""
    part = both.part("batch", 6)
    params = maml.leaves(both.params)
    values = [loss(params, part) for loss in (both.ours, both.theirs)]
    torch.testing.assert_close(*values, rtol=1e-11, atol=0)
    found, expected = (maml.gradient(value, params) for value in values)
    assert all(e.abs().max() > 1e-5 for e in expected.values())
    relatively_near(found, expected, NEAR)


@pytest.mark.parametrize("steps, memory", [(3, MEMORY), (1, 1)])
def test_the_meta_gradient_equals_a_graph_through_all_steps(both, steps, memory, second_derivatives, monkeypatch):
    """With no graph kept, with one and with all. With memory for one byte every prompt becomes a chunk of its own, computed again
    on the way back."""
    monkeypatch.setattr(both.clip, "memory", memory)
    both.classes = both.learner.prepare(both.clip, NAMES)
    assert chunks_of(both) == (1 if memory == MEMORY else len(NAMES))
    *support, query = (both.batch(f"meta{step}") for step in range(steps + 1))
    value, expected = through_all_steps(both.theirs, both.params, support, query, line_7, list(both.params))
    assert not second_derivatives and not both.passes  # nothing of mp's
    assert all(e.abs().max() > 1e-5 for e in expected.values())
    for kept in {0, 1, steps}:
        losses, found = maml.meta_gradient(both.ours, both.params, support, query, maml.sgd(0.05), kept_graphs=kept)
        torch.testing.assert_close(losses[-1], value, rtol=1e-11, atol=0)
        relatively_near(found, expected, NEAR)
        assert second_derivatives and both.passes == 2 * (steps + 1 + steps - kept)
        second_derivatives.clear()
        both.passes = 0


def test_first_order(both, second_derivatives):
    *support, query = (both.batch(f"meta{step}") for step in range(3))
    _, found = maml.meta_gradient(both.ours, both.params, support, query, maml.sgd(0.05), first_order=True,
                                  kept_graphs=2)
    assert not second_derivatives and both.passes == 6
    arguments = both.theirs, both.params, support, query, line_7, list(both.params)
    _, expected = through_all_steps(*arguments, first_order=True)
    relatively_near(found, expected, NEAR)
    _, second = maml.meta_gradient(both.ours, both.params, support, query, maml.sgd(0.05))
    assert any((second[k] - e).abs().max() > 1e-3 * e.abs().max() for k, e in expected.items())


def test_with_a_regulator(both, second_derivatives):
    def plainly(p, grad):
        stepped = {}
        for name, g in grad.items():
            down, up = p[f"regulator.{name}.down"], p[f"regulator.{name}.up"]
            stepped[name] = p[name] - 0.05 * (g + torch.clamp(g @ down.T, min=0) @ up.T)
        return p | stepped

    params, names = both.params | a_regulator(both.params, scale=0.05), list(both.params)
    *support, query = (both.batch(f"meta{step}") for step in range(3))
    _, expected = through_all_steps(both.theirs, params, support, query, plainly, names)
    assert all(e.abs().max() > 1e-6 for e in expected.values())
    for kept in (0, 1):
        _, found = maml.meta_gradient(both.ours, params, support, query, regulator.sgd(0.05), names, kept_graphs=kept)
        relatively_near(found, expected, NEAR)
        assert second_derivatives and both.passes == 2 * (3 + 2 - kept)
        second_derivatives.clear()
        both.passes = 0
