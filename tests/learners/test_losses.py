"""The learners' whole losses, and the meta-gradients through them, against tests/learners/plain.py, in float64."""
import pytest
import torch

from mp import maml, regulator
from mp.clip import derivatives
from mp.clip.model import CLIP
from mp.learners import METHODS, make_learner
from mp.runtime.device import MEMORY
from tests.golden import recipe, recipe_m
from tests.learners import plain
from tests.learners.test_learners import golden_learner
from tests.learners.test_maple import learner_of
from tests.test_maml import relatively_near, through_all_steps
from tests.test_regulator import a_regulator, regulated

CASES = {"coop": plain.coop, "cocoop": plain.cocoop, "promptsrc3": plain.promptsrc, "promptsrc2": plain.promptsrc,
         "maple3": plain.maple, "maple1": plain.maple, "maple2+ctx": plain.maple, "ivlp_v3x1_t2x2": plain.ivlp}
NAMES = recipe.CLASSES["A"][:3]  # of different lengths
OF_EACH_METHOD = ["coop", "cocoop", "promptsrc3", "maple3"]
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


@pytest.fixture
def both(case, clip, clip64, monkeypatch):
    monkeypatch.setattr(clip64, "memory", MEMORY)
    return Both(case, clip, clip64)


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


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_the_formula(both):
    """And so is its first derivative, of every tensor."""
    part = both.part("batch", 6)
    params = maml.leaves(both.params)
    values = [loss(params, part) for loss in (both.ours, both.theirs)]
    torch.testing.assert_close(*values, rtol=1e-11, atol=0)
    found, expected = (maml.gradient(value, params) for value in values)
    assert all(e.abs().max() > 1e-5 for e in expected.values())
    relatively_near(found, expected, NEAR)


@pytest.mark.parametrize("memory, kept", [(MEMORY, 1), (1, 0)], ids=["whole", "chunks"])
@pytest.mark.parametrize("case", OF_EACH_METHOD)
def test_the_meta_gradient_equals_a_graph_through_all_steps(both, memory, kept, second_derivatives, monkeypatch):
    """With memory for one byte every class becomes a chunk of its own, computed again on the way back."""
    monkeypatch.setattr(both.clip, "memory", memory)
    both.classes = both.learner.prepare(both.clip, NAMES)
    assert chunks_of(both) == (1 if memory == MEMORY else len(NAMES))
    *support, query = (both.batch(f"meta{step}") for step in range(3))
    value, expected = through_all_steps(both.theirs, both.params, support, query, line_7, list(both.params))
    assert not second_derivatives and not both.passes  # nothing of mp's
    assert all(e.abs().max() > 1e-5 for e in expected.values())
    losses, found = maml.meta_gradient(both.ours, both.params, support, query, maml.sgd(0.05), kept_graphs=kept)
    torch.testing.assert_close(losses[-1], value, rtol=1e-11, atol=0)
    relatively_near(found, expected, NEAR)
    assert second_derivatives and both.passes == 2 * (3 + 2 - kept)


@pytest.mark.parametrize("case", ["cocoop"])
def test_with_a_regulator(both):
    params = both.params | a_regulator(both.params, scale=0.05)
    *support, query = (both.batch(f"meta{step}") for step in range(3))
    arguments = params, support, query
    _, expected = through_all_steps(both.theirs, *arguments, regulated(0.05), list(both.params))
    assert all(e.abs().max() > 1e-6 for e in expected.values())
    _, found = maml.meta_gradient(both.ours, *arguments, regulator.sgd(0.05), list(both.params), kept_graphs=1)
    relatively_near(found, expected, NEAR)


@pytest.mark.parametrize("method", METHODS)
def test_the_second_derivative_is_what_differences_of_the_gradient_show(method, clip64):
    """For every row of METHODS, also a new one: the meta-gradient takes it of all that a loss is computed with."""
    generator = torch.Generator().manual_seed(0)
    learner = make_learner(method, clip64, 3, 2, generator)
    classes = learner.prepare(clip64, NAMES)
    inputs = learner.inputs(clip64, torch.from_numpy(recipe.images("A", "second", 3)).double())
    point = {name: p.detach() + 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
             for name, p in learner.named_parameters()}
    direction = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in point.items()}

    def gradient_at(step, **options):
        params = {name: (p + step * direction[name]).requires_grad_() for name, p in point.items()}
        loss = maml.run(learner, params, clip64, classes, *inputs, torch.tensor([0, 2, 1]))
        return params, torch.autograd.grad(loss, tuple(params.values()), **options)

    params, gradient = gradient_at(0, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(gradient, direction.values()))
    found = torch.autograd.grad(along, tuple(params.values()))
    eps = 1e-5
    (_, more), (_, less) = gradient_at(eps), gradient_at(-eps)
    for name, ours, above, below in zip(point, found, more, less):
        expected = (above - below) / (2 * eps)
        assert ours.dtype == torch.float64 and expected.abs().max() > 1e-4, name
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
