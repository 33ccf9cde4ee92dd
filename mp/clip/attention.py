"""Multi-head self-attention: of whole sequences, of texts that share their beginning, and, in a last layer, of the few
tokens whose output is used. Dimensions as in model.py; R of the tokens are wanted.
"""
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mp.clip.packing import Packing, Pad, Unpad


@cache
def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """[T, S] for queries that are the last T of S positions: true at a query's own position and before."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √d) v for q [..., T, d] and k, v [..., S, d]; a query sees the keys where `mask`, broadcast to
    [..., T, S], is true."""
    if not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # Its fused kernels have no second derivative, and MAML needs it: with gradients, the plain formula.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [..., T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def merge_heads(y: Tensor) -> Tensor:
    """[..., T, W] of [..., H, T, d]."""
    return y.transpose(-3, -2).flatten(-2)


class Attention(nn.Module):
    """Over x [..., T, W].

    With `packing`, x [..., P + N, W] is the prefix that all texts share, then the own tokens of every text. Only here,
    where tokens meet, are these padded to one rectangle, [..., C, L, ·]; they see the prefix, too.
    """

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // 64
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool, packing: Packing | None = None, wanted: Tensor | None = None) -> Tensor:
        """[..., T, W]; with `wanted` [R] only these tokens' rows, [..., R, W], as a last layer needs them: with
        `packing` the last token of each text, in order; without it any tokens."""
        if wanted is not None:
            return self.out_proj(self.of_wanted(x, causal, packing, wanted))
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)                  # [..., T, 3W]
        if packing is not None:
            return self.out_proj(self.of_texts(qkv, packing))
        q, k, v = self.split_heads(qkv)                                            # each [..., H, T, d]
        T = x.shape[-2]
        return self.out_proj(merge_heads(attend(q, k, v, causal_mask(T, T, x.device) if causal else None)))

    def of_texts(self, qkv: Tensor, packing: Packing) -> Tensor:
        """[..., P + N, W] of qkv [..., P + N, 3W]: the prefix sees itself, a text's own tokens see it and their own."""
        (q, k, v), (own_q, own_k, own_v) = self.heads_of_texts(qkv, packing)
        P, L = q.shape[-2], own_q.shape[-2]
        y = attend(q, k, v, causal_mask(P, P, q.device))                           # [..., H, P, d]
        mask = causal_mask(L, P + L, q.device)
        own_y = attend(own_q, with_prefix(k, own_k), with_prefix(v, own_v), mask)  # [..., C, H, L, d]
        own_rows = Unpad.apply(merge_heads(own_y).flatten(-3, -2), packing)        # [..., N, W]
        return torch.cat([merge_heads(y), own_rows], -2)

    def of_wanted(self, x: Tensor, causal: bool, packing: Packing | None, wanted: Tensor) -> Tensor:
        """[..., R, W]: queries of the tokens `wanted`, keys and values of all."""
        W = x.shape[-1]
        q = F.linear(x.index_select(-2, wanted), self.in_proj_weight[:W], self.in_proj_bias[:W])
        kv = F.linear(x, self.in_proj_weight[W:], self.in_proj_bias[W:])           # [..., T, 2W]
        if packing is None:
            (q,) = self.split_heads(q)                                             # [..., H, R, d]
            k, v = self.split_heads(kv)                                            # each [..., H, T, d]
            mask = torch.arange(x.shape[-2], device=x.device) <= wanted[:, None]   # [R, T]
            return merge_heads(attend(q, k, v, mask if causal else None))
        (q,) = self.split_heads(q.unsqueeze(-2))                                   # [..., C, H, 1, d]
        (k, v), (own_k, own_v) = self.heads_of_texts(kv, packing)
        P, L = k.shape[-2], own_k.shape[-2]
        place = P + packing.position[wanted - P]                                   # [C] of a token, in prefix and text
        mask = torch.arange(P + L, device=x.device) <= place[:, None, None, None]  # [C, 1, 1, P + L]
        y = attend(q, with_prefix(k, own_k), with_prefix(v, own_v), mask)          # [..., C, H, 1, d]
        return merge_heads(y).squeeze(-2)

    def heads_of_texts(self, qkv: Tensor, packing: Packing) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What split_heads gives of [..., P + N, 3W] (or 2W): for the prefix, each [..., H, P, d], and for the texts'
        own tokens, each [..., C, H, L, d]."""
        N = len(packing.own)
        prefix, own = qkv.split([qkv.shape[-2] - N, N], -2)
        own = Pad.apply(own, packing).unflatten(-2, packing.padded.shape)
        # Without the copy, views of the prefix would keep all of qkv for the gradient.
        return self.split_heads(prefix.clone()), self.split_heads(own)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each [..., H, T, d], of [..., T, 3W]; of 2W keys and values, of W queries."""
        return qkv.unflatten(-1, (-1, self.heads, 64)).transpose(-4, -2).unbind(-3)


def with_prefix(prefix: Tensor, own: Tensor) -> Tensor:
    """Keys or values [..., C, H, P + L, d] of texts: of the prefix [..., H, P, d], and their own [..., C, H, L, d]."""
    return torch.cat([prefix.unsqueeze(-4).expand(*own.shape[:-2], -1, -1), own], -2)
