"""Compute multi-head self-attention: the plain way, and for texts that begin alike without what repeats.

The plain way. A sequence is T rows of W numbers, one for each token. A token asks with a query q, and all tokens answer
with a key k and a value v: it gets the mean of the values, weighted by softmax(q·k / √d). H heads do this side by side,
each with d = 64 of the W numbers. In the text tower a token sees only itself and those before it (`causal`).

The short way. Class prompts begin alike: they are a prefix (SOS and context) and each text's own suffix (name and EOT).
Here are two, with the prefix p p and the suffixes a a a and b b. The plain way has a row for each letter and dot on the
left, where a dot is padding; the short way has the rows named on the right, and each sees the keys marked with x:

    plain                           short            keys  p p   a a a   b b
                                             queries    p  x
    p p a a a . . .                                     p  x x
    p p b b . . . .                                     a  x x   x
                                                        a  x x   x x
                                                        a  x x   x x x          asks also in the last layer
                                                        b  x x           x
                                                        b  x x           x x    asks also in the last layer

The result is the same: what is left out changes no row that is read.

* Padding: no token sees what follows it.
* All prefixes but one: a prefix's tokens see nothing behind it, so they are the same in every text.
* In the last layer, the queries of all rows but those that the features are made of (`rows_read`).

The marks are computed in two rectangles: the prefix attends to itself; the suffixes, padded to the longest one, attend
to the prefix and each to itself.

    p p  to  p p            a a a  to  p p a a a
                            b b .      p p b b .
    [B, H, P, d]            [B, C, H, L, d]  to  [B, C, H, P + L, d]

Dimensions: B images, or prefixes (CoCoOp has one for each image), C texts, H heads, T tokens of a sequence, P of the
prefix, L of the longest suffix, N of all suffixes, d numbers of a head, W = H · d; R rows are read.
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


def rows_read(x: Tensor, packing: Packing | None) -> Tensor:
    """Return the rows that are read after the last layer, [B, R, W]: the last one of each text; of an image the first
    one, its class token."""
    if packing is None:
        return x[:, :1]
    P = x.shape[1] - len(packing.place_of_row)
    return x.index_select(1, P + packing.last)


class Attention(nn.Module):
    """Attend over sequences x [B, T, W]; with `packing`, over texts x [B, P + N, W]: a prefix, then all suffixes."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // 64
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool, packing: Packing | None = None, last_layer: bool = False) -> Tensor:
        """Return what each row gets, in the shape of x; in the last layer only `rows_read` ask, and get it."""
        if last_layer:
            return self.out_proj(self.attend_last_layer(x, packing))
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)                  # [B, T, 3W]
        if packing is not None:
            return self.out_proj(self.attend_over_texts(qkv, packing))
        q, k, v = self.split_heads(qkv)                                            # each [B, H, T, d]
        T = x.shape[1]
        mask = causal_mask(T, T, x.device) if causal else None
        return self.out_proj(merge_heads(attend(q, k, v, mask)))

    def attend_over_texts(self, qkv: Tensor, packing: Packing) -> Tensor:
        """Return [B, P + N, W] for qkv [B, P + N, 3W]."""
        (q, k, v), (suffix_q, suffix_k, suffix_v) = self.split_texts(qkv, packing)
        P, L = q.shape[-2], suffix_q.shape[-2]
        prefix_y = attend(q, k, v, causal_mask(P, P, q.device))                    # [B, H, P, d]
        mask = causal_mask(L, P + L, q.device)
        suffix_y = attend(suffix_q, with_prefix(k, suffix_k), with_prefix(v, suffix_v), mask)  # [B, C, H, L, d]
        suffix_rows = Unpad.apply(merge_heads(suffix_y).flatten(1, 2), packing)    # [B, N, W] of [B, C * L, W]
        return torch.cat([merge_heads(prefix_y), suffix_rows], 1)

    def attend_last_layer(self, x: Tensor, packing: Packing | None) -> Tensor:
        """Return [B, R, W] for x [B, T, W]: what `rows_read` get from all tokens that they see."""
        W = x.shape[-1]
        q = F.linear(rows_read(x, packing), self.in_proj_weight[:W], self.in_proj_bias[:W])  # [B, R, W]
        kv = F.linear(x, self.in_proj_weight[W:], self.in_proj_bias[W:])           # [B, T, 2W]
        if packing is None:
            (q,) = self.split_heads(q)                                             # [B, H, 1, d]
            k, v = self.split_heads(kv)                                            # each [B, H, T, d]
            return merge_heads(attend(q, k, v, None))
        (q,) = self.split_heads(q.unsqueeze(2))                                    # [B, C, H, 1, d] one of each text
        (k, v), (suffix_k, suffix_v) = self.split_texts(kv, packing)
        P, L = k.shape[-2], suffix_k.shape[-2]
        position = P + packing.position[packing.last]                              # [C] of the tokens that ask
        mask = torch.arange(P + L, device=x.device) <= position[:, None, None, None]  # [C, 1, 1, P + L]
        y = attend(q, with_prefix(k, suffix_k), with_prefix(v, suffix_v), mask)  # [B, C, H, 1, d]
        return merge_heads(y).squeeze(2)

    def split_texts(self, qkv: Tensor, packing: Packing) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Split [B, P + N, 3W] (or 2W) into heads: of the prefix, each [B, H, P, d], and of the suffixes, padded, each
        [B, C, H, L, d]."""
        N = len(packing.place_of_row)
        prefix, suffixes = qkv.split([qkv.shape[1] - N, N], 1)
        suffixes = Pad.apply(suffixes, packing).unflatten(1, packing.row_at_place.shape)  # [B, C, L, 3W]
        # Without the copy, views of the prefix would keep all of qkv for the gradient.
        return self.split_heads(prefix.clone()), self.split_heads(suffixes)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Split [..., T, 3W] into queries, keys and values, each [..., H, T, d]; 2W into keys and values; W is
        queries alone."""
        by_heads = qkv.unflatten(-1, (-1, self.heads, 64)).transpose(-4, -2)       # [..., H, 3, T, d]
        return by_heads.unbind(-3)


def with_prefix(prefix: Tensor, suffixes: Tensor) -> Tensor:
    """Return the keys or values that suffixes see, [B, C, H, P + L, d]: the prefix's [B, H, P, d], before their own
    [B, C, H, L, d]."""
    C = suffixes.shape[1]
    return torch.cat([prefix.unsqueeze(1).expand(-1, C, -1, -1, -1), suffixes], -2)
