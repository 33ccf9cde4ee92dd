"""Derivatives written by hand, against those that torch finds by itself, in float64."""
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from mp.clip.derivatives import LayerNorm, SiLU
from mp.clip.packing import Pad, Unpad, pack

SHAPES = [(5,), (3, 7), (2, 3, 16)]


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def layer_norm(width):
    norm = LayerNorm(width).double().requires_grad_(False)
    norm.weight.copy_(draw(width, seed=1))
    norm.bias.copy_(draw(width, seed=2))
    return norm


def two_derivatives(function, x):
    """The function's value, its gradient along a random direction, and that gradient's, for x and the direction."""
    y = function(x)
    direction = draw(*y.shape, seed=3)
    first, = torch.autograd.grad(y, x, direction, create_graph=True)
    return [y, first, *torch.autograd.grad(first, (x, direction), draw(*first.shape, seed=4))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_the_layer_norm_is_torchs(shape, eps):
    norm = layer_norm(shape[-1])
    norm.eps = eps
    torchs = lambda x: F.layer_norm(x, shape[-1:], norm.weight, norm.bias, eps)
    for ours, theirs in zip(two_derivatives(norm, draw(*shape)), two_derivatives(torchs, draw(*shape)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert gradgradcheck(norm, draw(*shape))


def test_a_layer_norm_that_is_trained_has_gradients_of_its_own():
    norm = LayerNorm(4).double()
    norm(draw(2, 4)).sum().backward()
    assert norm.weight.grad.abs().max() > 0 and (norm.bias.grad == 2).all()
    norm.weight.requires_grad_(False)
    norm(draw(2, 4)).sum().backward()
    assert (norm.bias.grad == 4).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_silu_is_torchs(shape):
    for ours, theirs in zip(two_derivatives(SiLU.apply, draw(*shape)), two_derivatives(F.silu, draw(*shape)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert gradgradcheck(SiLU.apply, draw(*shape))


@pytest.mark.parametrize("operation", [LayerNorm(4).requires_grad_(False), SiLU.apply])
def test_a_third_derivative_is_refused(operation):
    x = torch.randn(3, 4, requires_grad=True)
    first, = torch.autograd.grad(operation(x).pow(2).sum(), x, create_graph=True)
    torch.autograd.grad(first.pow(2).sum(), x, retain_graph=True)
    with pytest.raises(RuntimeError, match="no third derivatives"):
        torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)


@pytest.mark.parametrize("lengths", [[1], [3, 3], [2, 5, 1, 4]])
def test_padding_and_back(lengths):
    """Each takes the other's rows where they came from; padding is zero, and what stands there goes nowhere."""
    packing = pack(torch.tensor(lengths))
    C, L, N = len(lengths), max(lengths), sum(lengths)
    rows, padded = draw(2, N, 3), draw(2, C * L, 3, seed=1)
    expected, start = torch.zeros(2, C, L, 3, dtype=torch.float64), 0
    for number, length in enumerate(lengths):
        expected[:, number, :length] = rows[:, start : start + length]
        start += length
    found = Pad.apply(rows, packing)
    assert torch.equal(found, expected.flatten(1, 2)) and torch.equal(Unpad.apply(found, packing), rows)
    for operation, x in ((Pad, rows), (Unpad, padded)):
        assert gradcheck(lambda x: operation.apply(x, packing), x)
        assert gradgradcheck(lambda x: operation.apply(x, packing).pow(2), x)
