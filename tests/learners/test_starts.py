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
@pytest.mark.parametrize("method", BESIDE_CTX)
def test_the_start_is_torchs_own(method, length, clip):
    """More than four vectors of context are drawn before all else; fewer are the first words of "a photo of a"."""
    learner = make_learner(method, clip, 3, length, torch.Generator().manual_seed(7))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        words = clip.token_embedding.weight[[320, 1125, 539, 320]].detach()
        expected = {"ctx": words[:length] if length <= 4 else normal(length)} | BESIDE_CTX[method](3, length)
    assert dict(learner.named_parameters()).keys() == expected.keys()
    for name, p in learner.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name].detach().float(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_is_a_start(method, clip):
    """Also a new method's; other draws in between, of torch's own generator, change nothing."""
    first, again = (make_learner(method, clip, 3, 6, torch.Generator().manual_seed(7)) for _ in range(2))
    other = make_learner(method, clip, 3, 6, torch.Generator().manual_seed(8))
    for name, p in first.named_parameters():
        assert torch.equal(p, again.get_parameter(name))
    assert not all(torch.equal(p, other.get_parameter(name)) for name, p in first.named_parameters())
