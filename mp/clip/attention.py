"""Compute multi-head self-attention, without what nobody reads.

The plain way: every text is a sequence of its own, and each of its tokens asks (q) all tokens (k, v), or, in a causal
tower, itself and those before it. Two things are left out here, and what remains is the same:

* Causal tokens never see what follows, so what all texts begin with, their prefix, is the same in each of them. It is
  there once, and the tokens that are a text's own see it as if it stood before them.
* Of a last layer only some tokens are read: each text's last one, or an image's class token. Only these ask.

With the prefix "p p" and the texts "a a a" and "b b", where each query sees the keys up to its own place:

    rows of x [P + N, W]     keys, values                      queries           queries of a last layer

    p p  a a a  b b          of the prefix  p p                p p               none
                             of text a      p p  a a a         a a a             a, the last one
                             of text b      p p  b b ·         b b ·             b, the last one
                             of the texts   [C, H, P + L, d]   [C, H, L, d]      [C, H, 1, d]

The five dimensions of texts are [B, C, H, L, d]: B prefixes, C texts, H heads, L tokens (the longest text's: shorter
ones are padded, after their last token, which causal tokens don't see either), d = 64 numbers. Without texts there are
four, [B, H, T, d]. P tokens are the prefix's, N the texts' own; T tokens ask, S are looked at; W is the width; R of
the tokens are wanted.
"""
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.packing import Packing, Pad, Unpad


@cache
def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """Return [T, S] for queries that are the last T of S positions: true at a query's position and before."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(q kᵀ / √d) v for q [..., T, d] and k, v [..., S, d]; a query sees the keys where `mask`, broadcast
    to [..., T, S], is true."""
    if not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # Its fused kernels have no second derivative, and MAML needs it: with gradients, the plain formula.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [..., T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def merge_heads(y: Tensor) -> Tensor:
    """Return [..., T, W], from [..., H, T, d]."""
    return y.transpose(-3, -2).flatten(-2)


class Attention(nn.Module):
    """Attend over x [..., T, W]; with `packing` x [..., P + N, W] is a prefix, then the own tokens of every text."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // 64
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool, packing: Packing | None = None, wanted: Tensor | None = None) -> Tensor:
        """Return [..., T, W]; with `wanted` [R] these tokens' rows alone, [..., R, W]: with `packing` the last token of
        each text, in order; without it any tokens."""
        if wanted is not None:
            return self.out_proj(self.of_wanted(x, causal, packing, wanted))
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)                  # [..., T, 3W]
        if packing is not None:
            return self.out_proj(self.of_texts(qkv, packing))
        q, k, v = self.split_heads(qkv)                                            # each [..., H, T, d]
        T = x.shape[-2]
        mask = causal_mask(T, T, x.device) if causal else None
        return self.out_proj(merge_heads(attend(q, k, v, mask)))

    def of_texts(self, qkv: Tensor, packing: Packing) -> Tensor:
        """Return [..., P + N, W] for qkv [..., P + N, 3W]: of the prefix, then of all texts' own tokens."""
        (q, k, v), (own_q, own_k, own_v) = self.heads_of_texts(qkv, packing)
        P, L = q.shape[-2], own_q.shape[-2]
        y = attend(q, k, v, causal_mask(P, P, q.device))                           # [..., H, P, d]
        mask = causal_mask(L, P + L, q.device)
        own_y = attend(own_q, with_prefix(k, own_k), with_prefix(v, own_v), mask)  # [..., C, H, L, d]
        own_rows = Unpad.apply(merge_heads(own_y).flatten(-3, -2), packing)        # [..., N, W]
        return torch.cat([merge_heads(y), own_rows], -2)

    def of_wanted(self, x: Tensor, causal: bool, packing: Packing | None, wanted: Tensor) -> Tensor:
        """Return [..., R, W]: the wanted tokens alone ask, and all tokens that they see answer."""
        W = x.shape[-1]
        q = F.linear(x.index_select(-2, wanted), self.in_proj_weight[:W], self.in_proj_bias[:W])
        kv = F.linear(x, self.in_proj_weight[W:], self.in_proj_bias[W:])           # [..., T, 2W]
        if packing is None:
            (q,) = self.split_heads(q)                                             # [..., H, R, d]
            k, v = self.split_heads(kv)                                            # each [..., H, T, d]
            mask = torch.arange(x.shape[-2], device=x.device) <= wanted[:, None]   # [R, T]
            return merge_heads(attend(q, k, v, mask if causal else None))
        # Each of the C texts has one token that asks: R = C, and it is the only one of its sequence.
        (q,) = self.split_heads(q.unsqueeze(-2))                                   # [..., C, H, 1, d]
        (k, v), (own_k, own_v) = self.heads_of_texts(kv, packing)
        P, L = k.shape[-2], own_k.shape[-2]
        place = P + packing.position[wanted - P]                                   # [C] position of the token that asks
        mask = torch.arange(P + L, device=x.device) <= place[:, None, None, None]  # [C, 1, 1, P + L]
        y = attend(q, with_prefix(k, own_k), with_prefix(v, own_v), mask)          # [..., C, H, 1, d]
        return merge_heads(y).squeeze(-2)

    def heads_of_texts(self, qkv: Tensor, packing: Packing) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Split [..., P + N, 3W] (or 2W) into heads: of the prefix, each [..., H, P, d], and of the texts' own tokens,
        padded, each [..., C, H, L, d]."""
        N = len(packing.own)
        prefix, own = qkv.split([qkv.shape[-2] - N, N], -2)
        own = Pad.apply(own, packing).unflatten(-2, packing.padded.shape)
        # Without the copy, views of the prefix would keep all of qkv for the gradient.
        return self.split_heads(prefix.clone()), self.split_heads(own)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Split [..., T, 3W] into queries, keys and values, each [..., H, T, d]; 2W into keys and values alone; W is
        queries."""
        by_heads = qkv.unflatten(-1, (-1, self.heads, 64)).transpose(-4, -2)       # [..., H, 3, T, d]
        return by_heads.unbind(-3)


def with_prefix(prefix: Tensor, own: Tensor) -> Tensor:
    """Return the keys or values that texts see, [..., C, H, P + L, d]: the prefix's [..., H, P, d], then their own
    [..., C, H, L, d]."""
    return torch.cat([prefix.unsqueeze(-4).expand(*own.shape[:-2], -1, -1), own], -2)
