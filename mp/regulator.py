"""A gradient regulator: a small network between the inner gradients and the inner steps, meta-learnt with the prompt.

The rival that the paper argues against ("gradient-regulated meta-prompt learning") has one, as have SUPMER (EMNLP 2023)
and ProMetaR (CVPR 2024). No code of the first is public, so this one is only in its spirit:

    r(g) = g + up · relu(down · g)      for each vector g of a gradient, with matrices of its tensor's own

`up` starts at zero, so that every step is the gradient itself, and the bits are those of Algorithm 1.
"""
import torch
import torch.nn.functional as F

from mp.maml import Params

PREFIX = "regulator."  # of the names of its parameters φ, which stand beside the prompt's
RANK = 8
LAST_SEED = 2**32 - 1


def start(params: Params, seed: int) -> Params:
    """φ for gradients of `params`: of each tensor [..., W], `down` [RANK, W], at random, and `up` [W, RANK], zero."""
    # Of another seed than what is random in the prompt's start, which would be the same numbers.
    phi, generator = {}, torch.Generator().manual_seed(LAST_SEED - seed)
    for name, p in params.items():
        width = p.shape[-1] if p.dim() else 1
        down = torch.randn(RANK, width, generator=generator) * width**-0.5
        phi[f"{PREFIX}{name}.down"] = down.to(p)
        phi[f"{PREFIX}{name}.up"] = torch.zeros(width, RANK).to(p)
    return phi


def regulate(phi: Params, grad: Params) -> Params:
    """The steps for gradients [..., W] of all tensors, each of its gradient's shape."""
    steps = {}
    for name, g in grad.items():
        down, up = phi[f"{PREFIX}{name}.down"], phi[f"{PREFIX}{name}.up"]
        vectors = g.reshape(-1, down.shape[1])                                 # [N, W]; of a number [1, 1]
        steps[name] = (vectors + F.linear(F.relu(F.linear(vectors, down)), up)).view_as(g)
    return steps


def split(params: Params) -> tuple[Params, Params]:
    """The prompt's own tensors, and φ; without a regulator, φ is empty."""
    phi = {name: value for name, value in params.items() if name.startswith(PREFIX)}
    return {name: value for name, value in params.items() if name not in phi}, phi
