"""Attention over texts that share their beginning, and of the rows that are read alone, held to torch's own module."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mp.clip.attention import Attention
from mp.clip.packing import pack

WIDTH, PREFIXES, P = 128, 2, 3


@pytest.fixture
def both():
    """Attention and torch's own with the same random weights, in float64."""
    torch.manual_seed(0)
    ours, theirs = Attention(WIDTH), nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True)
    state = {name: torch.randn_like(p, dtype=torch.float64) / 8 for name, p in theirs.named_parameters()}
    for module in (ours, theirs):
        module.double().requires_grad_(False).load_state_dict(state)
    return ours, theirs


def whole(theirs, x, causal):
    mask = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).triu(1) if causal else None  # true: not seen
    return theirs(x, x, x, attn_mask=mask)[0]


def one_by_one(theirs, x, lengths):
    """Every text by itself, after the prefix: rows as in x."""
    prefix, *own = x.split([P, *lengths], 1)
    rows = [whole(theirs, prefix, True)]
    for text in own:
        rows.append(whole(theirs, torch.cat([prefix, text], 1), True)[:, P:])
    return torch.cat(rows, 1)


@pytest.fixture
def fused(monkeypatch):
    """For every call of torch's fused attention, whether gradients were on."""
    calls, attention = [], F.scaled_dot_product_attention

    def watched(*args, **more):
        calls.append(torch.is_grad_enabled())
        return attention(*args, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return calls


def values_and_derivatives(compute, x, first, second):
    """Of a random direction's sum: the value, and with gradients those of first and second order."""
    with torch.no_grad():
        without = compute(x)
    x = x.clone().requires_grad_()
    y = compute(x)
    grad, = torch.autograd.grad((y * first).sum(), x, create_graph=True)
    again, = torch.autograd.grad(grad, x, second)
    return without, y.detach(), grad.detach(), again


def hold_to_torchs(ours, theirs, x, first, second, fused, times):
    """Ours takes the fused way, so many times, without a gradient and only then; torch's module never does."""
    found = values_and_derivatives(ours, x, first, second)
    assert fused == [False] * times
    expected = values_and_derivatives(theirs, x, first, second)
    assert len(fused) == times
    for a, b in zip(found, expected, strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * float(b.abs().max()))


@pytest.mark.parametrize("lengths", [[2, 5, 1, 3], [4, 4], [1]])
@pytest.mark.parametrize("last_layer", [False, True])
def test_texts_that_share_a_prefix(both, lengths, last_layer, fused):
    ours, theirs = both
    packing = pack(torch.tensor(lengths))
    rows = P + torch.tensor(lengths).cumsum(0) - 1 if last_layer else slice(None)
    x = torch.randn(PREFIXES, P + sum(lengths), WIDTH, dtype=torch.float64)
    directions = torch.randn_like(one_by_one(theirs, x, lengths)[:, rows]), torch.randn_like(x)
    hold_to_torchs(lambda x: ours(x, True, packing, last_layer), lambda x: one_by_one(theirs, x, lengths)[:, rows],
                   x, *directions, fused, times=1 if last_layer else 2)  # of the prefix, and of the texts


@pytest.mark.parametrize("causal, last_layer", [(False, False), (True, False), (False, True)])
def test_whole_sequences(both, causal, last_layer, fused):
    ours, theirs = both
    rows = slice(0, 1) if last_layer else slice(None)
    x = torch.randn(PREFIXES, 5, WIDTH, dtype=torch.float64)
    directions = torch.randn_like(x[:, rows]), torch.randn_like(x)
    hold_to_torchs(lambda x: ours(x, causal, last_layer=last_layer), lambda x: whole(theirs, x, causal)[:, rows],
                   x, *directions, fused, times=1)
