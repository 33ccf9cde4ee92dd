"""A gradient regulator: a small network between the inner gradients and the inner steps, meta-learnt with the prompt.

The rival that the paper argues against ("gradient-regulated meta-prompt learning") has one, as have SUPMER (EMNLP 2023)
and ProMetaR (CVPR 2024). No code of the first is public, so this one is only in its spirit:

    r(g) = g + up · relu(down · g)      for each vector g of a gradient, with matrices of its tensor's own

`up` starts at zero, so that every step is the gradient itself, and the bits are those of Algorithm 1. The matrices, φ,
stand among the parameters beside the prompt's, and the meta-gradient is theirs, too.
"""
import torch
import torch.nn.functional as F

from mp.maml import Params, Update

PREFIX = "regulator."  # of the names of φ
RANK = 8
LAST_SEED = 2**32 - 1


def start(params: Params, seed: int) -> Params:
    """Return φ for gradients of `params`: for a tensor [..., W], random `down` [RANK, W], and `up` [W, RANK], zero."""
    # Of another seed than what is random in the prompt's start, which would be the same numbers.
    phi, generator = {}, torch.Generator().manual_seed(LAST_SEED - seed)
    for name, p in params.items():
        width = p.shape[-1] if p.dim() else 1
        down = torch.randn(RANK, width, generator=generator) * width**-0.5
        phi[f"{PREFIX}{name}.down"] = down.to(p)
        phi[f"{PREFIX}{name}.up"] = torch.zeros(width, RANK).to(p)
    return phi


def regulate(phi: Params, grad: Params) -> Params:
    """Return r of gradients [..., W], each of its gradient's shape."""
    steps = {}
    for name, g in grad.items():
        down, up = phi[f"{PREFIX}{name}.down"], phi[f"{PREFIX}{name}.up"]
        vectors = g.reshape(-1, down.shape[1])                                 # [N, W]; of a number [1, 1]
        steps[name] = (vectors + F.linear(F.relu(F.linear(vectors, down)), up)).view_as(g)
    return steps


def sgd(inner_lr: float) -> Update:
    """Return the update p ← p - α r(∇L(p)), with α = `inner_lr`; φ, among the parameters, passes through unchanged."""
    def update(params: Params, grad: Params) -> Params:
        steps = regulate(params, grad)
        return params | {k: params[k] - inner_lr * step for k, step in steps.items()}

    return update


def split(params: Params) -> tuple[Params, Params]:
    """Return the prompt's own tensors, and φ; without a regulator, φ is empty."""
    phi = {name: value for name, value in params.items() if name.startswith(PREFIX)}
    return {name: value for name, value in params.items() if name not in phi}, phi
