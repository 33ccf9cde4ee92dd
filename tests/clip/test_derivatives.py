"""Derivatives written by hand, against those that torch finds by itself, in float64."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from mp.clip.derivatives import LayerNorm, SiLU
from mp.clip.packing import Pad, Unpad, pack

SHAPES = [(5,), (2, 3, 16)]


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def layer_norm(width):
    """A frozen one: a weight that has a gradient, or is computed from one that has, would take torch's own path."""
    norm = LayerNorm(width).double().requires_grad_(False)
    norm.weight.copy_(draw(width, seed=1).detach())
    norm.bias.copy_(draw(width, seed=2).detach())
    return norm


def two_derivatives(function, x):
    """The function's value, its gradient along a random direction, and that gradient's, for x and the direction; and
    the names of the operations that the value and the gradient come from."""
    y = function(x)
    direction = draw(*y.shape, seed=3)
    first, = torch.autograd.grad(y, x, direction, create_graph=True)
    values = [y, first, *torch.autograd.grad(first, (x, direction), draw(*first.shape, seed=4))]
    return values, [value.grad_fn.name() for value in (y, first)]


def hold_to_torchs(ours, theirs, x, operations):
    """Both give the same, ours by the operations that are written here, torch's by others."""
    found, ours_took = two_derivatives(ours, x)
    expected, theirs_took = two_derivatives(theirs, x)
    assert ours_took == operations and not set(theirs_took) & set(operations)
    for a, b in zip(found, expected, strict=True):
        assert b.abs().max() > 1e-3  # a zero would agree with anything that is left out
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_the_layer_norm_is_torchs(shape, eps):
    norm = layer_norm(shape[-1])
    norm.eps = eps
    torchs = lambda x: F.layer_norm(x, shape[-1:], norm.weight, norm.bias, eps)
    hold_to_torchs(norm, torchs, draw(*shape), ["NormBackward", "NormGradientBackward"])
    assert gradgradcheck(norm, draw(*shape))


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_each_term_of_the_layer_norms_second_derivative(eps):
    """The formula written out for one vector, in plain numbers; none of its terms is so small that it could be left
    out."""
    W = 6
    norm = layer_norm(W)
    norm.eps = eps
    x, direction, v = draw(W), draw(W, seed=3), draw(W, seed=4).detach()
    first, = torch.autograd.grad(norm(x), x, direction, create_graph=True)
    assert first.grad_fn.name() == "NormGradientBackward"
    for_x, for_direction = torch.autograd.grad(first, (x, direction), v)

    def centre(values):
        return [value - sum(values) / W for value in values]

    def mean(a, b):
        return sum(one * other for one, other in zip(a, b)) / W

    weight, deviations = norm.weight.tolist(), centre(x.tolist())
    scale = (mean(deviations, deviations) + eps) ** -0.5
    h = [scale * deviation for deviation in deviations]
    a = centre([one * w for one, w in zip(direction.tolist(), weight)])
    v = centre(v.tolist())
    p, q, s = mean(v, h), mean(a, h), mean(v, a)
    terms = torch.tensor([[-scale**2 * s * one for one in h], [3 * scale**2 * p * q * one for one in h],
                          [-scale**2 * q * one for one in v], [-scale**2 * p * one for one in a]], dtype=torch.float64)
    assert (terms.abs().amax(1) > 0.01).all()
    torch.testing.assert_close(for_x, terms.sum(0), rtol=0, atol=1e-12)
    terms = torch.tensor([[scale * w * one for w, one in zip(weight, v)],
                          [-scale * w * p * one for w, one in zip(weight, h)]], dtype=torch.float64)
    assert (terms.abs().amax(1) > 0.01).all()
    torch.testing.assert_close(for_direction, terms.sum(0), rtol=0, atol=1e-12)


def test_a_layer_norm_that_is_trained_has_gradients_of_its_own():
    norm = LayerNorm(4).double()
    norm(draw(2, 4)).sum().backward()
    assert norm.weight.grad.abs().max() > 0 and (norm.bias.grad == 2).all()
    norm.weight.requires_grad_(False)
    norm(draw(2, 4)).sum().backward()
    assert (norm.bias.grad == 4).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_silu_is_torchs(shape):
    hold_to_torchs(SiLU.apply, lambda x: x * x.sigmoid(), draw(*shape), ["SiLUBackward", "SiLUGradientBackward"])
    assert gradgradcheck(SiLU.apply, draw(*shape))


def test_silus_second_derivative_at_known_places():
    """1/2 at zero; zero where x tanh(x/2) = 2, and far out; and of 1, by the formula in plain numbers."""
    zero = 2.3993572805154677  # of the second derivative, by bisection
    x = torch.tensor([0.0, zero, -zero, 30.0, -30.0, 1.0], dtype=torch.float64, requires_grad=True)
    first, = torch.autograd.grad(SiLU.apply(x).sum(), x, create_graph=True)
    second, = torch.autograd.grad(first.sum(), x)
    s = 1 / (1 + math.exp(-1))
    expected = torch.tensor([0.5, 0, 0, 0, 0, s * (1 - s) * (3 - 2 * s)], dtype=torch.float64)
    torch.testing.assert_close(second, expected, rtol=0, atol=1e-10)


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
