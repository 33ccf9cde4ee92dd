"""Where the methods' random numbers start: torch's own linear layers, and normal prompts, drawn in a stated order.

A seed means the same start for ever: the prompts of two commits can only then be compared.
"""
import pytest
import torch
from torch import nn

from mp.learners import METHODS, make_learner

WIDTH, EMBED = 128, 48  # of the golden CLIP, whose towers are as wide as each other


def linear(inputs, outputs):
    """As torch draws it, from its global generator."""
    return dict(nn.Linear(inputs, outputs).named_parameters())


def normal(length):
    return 0.02 * torch.randn(length, WIDTH)


def cocoop(depth, length):
    first, second = linear(EMBED, EMBED // 16), linear(EMBED // 16, WIDTH)
    return {f"meta_net.linear{i}.{kind}": p for i, layer in ((1, first), (2, second)) for kind, p in layer.items()}


def promptsrc(depth, length):
    text = {f"text.{i}": normal(length) for i in range(1, depth)}
    return text | {f"vision.{i}": normal(length) for i in range(depth)}


def maple(depth, length):
    text = {f"text.{i}": normal(length) for i in range(1, depth)}
    couplings = [linear(WIDTH, WIDTH), linear(WIDTH, WIDTH)]
    return text | {f"proj.{i}.{kind}": p for i in range(depth) for kind, p in couplings[min(i, 1)].items()}


BESIDE_CTX = {"coop": lambda depth, length: {}, "cocoop": cocoop, "promptsrc": promptsrc, "maple": maple}


@pytest.mark.parametrize("length", [2, 4, 6])
@pytest.mark.parametrize("method", METHODS)
def test_the_start_is_torchs_own(method, length, clip, recipe):
    """More than four vectors of context are drawn before all else; fewer are the first words of "a photo of a"."""
    found = dict(make_learner(method, clip, 3, length, torch.Generator().manual_seed(7)).named_parameters())
    with torch.random.fork_rng():
        torch.manual_seed(7)
        words = torch.from_numpy(recipe.clip_state("A")["token_embedding.weight"])[[320, 1125, 539, 320]]
        expected = {"ctx": words[:length] if length <= 4 else normal(length)} | BESIDE_CTX[method](3, length)
    assert found.keys() == expected.keys()
    for name, p in found.items():
        torch.testing.assert_close(p.detach(), expected[name].detach().float(), rtol=0, atol=1e-7)
