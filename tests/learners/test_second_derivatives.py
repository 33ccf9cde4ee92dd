"""Every method's loss has the second derivative that differences of its gradient show, in float64.

The gradients themselves are held to the original implementations; a meta-gradient needs their derivative, too, which
MAML's tests can't tell from a wrong one: there, both sides take it from the same operations.
"""
import pytest
import torch

from mp import maml
from mp.clip.model import CLIP
from mp.learners import METHODS, make_learner
from mp.runtime.device import MEMORY

NAMES = ["cat", "sea or lake", "t-rex"]


@pytest.fixture(scope="module")
def clip64(clip):
    with torch.device("meta"):
        double = CLIP(image_size=32, patch=8, image_width=128, image_layers=3, text_width=128, text_layers=3, embed=48)
    double.load_state_dict({name: p.double() for name, p in clip.state_dict().items()}, assign=True)
    return double.requires_grad_(False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("memory", [MEMORY, 1], ids=["whole", "chunks"])
def test_it_is_what_differences_of_the_gradient_show(method, memory, clip64, recipe, monkeypatch):
    monkeypatch.setattr(clip64, "memory", memory)
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
