"""Algorithm 1 of the paper: MAML (Finn et al. 2017) with gradient clipping, on plain dicts of tensors.

A loss is a function `loss(params, part) -> scalar`. A batch is a list of parts with weights, and its loss their
weighted sum: parts go through the model one after another, so that a batch may be larger than the memory.
Nothing here knows about prompts, CLIP or images.
"""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

Params = dict[str, Tensor]
Loss = Callable[[Params, object], Tensor]
Regulate = Callable[[Params, Params], Params]  # from a regulator's parameters φ and a gradient to a direction
Batch = list[tuple[object, float]]  # parts and weights


def run(learner: nn.Module, params: Params, *args) -> Tensor:
    """`learner(*args)` with `params` in place of its own parameters.

    functional_call alone accepts a misspelt or missing name without a word and falls back to the
    learner's own tensor, which would train nothing; here it is a KeyError.
    """
    own = dict(learner.named_parameters())
    if own.keys() != params.keys():
        raise KeyError(f"parameters {sorted(params.keys() ^ own.keys())} are missing or unknown")
    return functional_call(learner, params, args)


def gradient(value: Tensor, params: Params, **options: bool) -> Params:
    """∇ of a value, by the names of `params`; the options are torch.autograd.grad's."""
    return dict(zip(params, torch.autograd.grad(value, tuple(params.values()), **options)))


def inner_product(a: Params, b: Params) -> Tensor:
    """⟨a, b⟩ over all tensors together."""
    return torch.stack([(a[k] * b[k]).sum() for k in a]).sum()


def value_and_grad(loss: Loss, params: Params, batch: Batch,
                   graphs: list[Params] | None = None) -> tuple[Tensor, Params]:
    """The loss of a batch and its gradient. A parameter the loss doesn't depend on is an error, not a zero.

    `graphs`: an empty list; it gets the gradient of each part, with its graph.
    """
    total, sums = 0.0, {k: torch.zeros_like(p) for k, p in params.items()}
    for part, weight in batch:
        value = loss(params, part)
        grads = gradient(value, params, create_graph=graphs is not None)
        if graphs is not None:
            graphs.append(grads)
        total = total + weight * value.detach()
        sums = {k: sums[k] + weight * grads[k].detach() for k in sums}
    return total, sums


def hessian_vector(loss: Loss, params: Params, batch: Batch, vector: Params, graphs: Sequence[Params] = ()) -> Params:
    """∇²L · vector for the loss of a batch, as the gradient of ⟨∇L, vector⟩. `graphs`: of ∇L of each part, if kept."""
    sums = {k: torch.zeros_like(p) for k, p in params.items()}
    for number, (part, weight) in enumerate(batch):
        grads = graphs[number] if graphs else gradient(loss(params, part), params, create_graph=True)
        # A parameter may enter a loss linearly, so that its second derivative is a true zero.
        products = gradient(inner_product(grads, vector), params, materialize_grads=True)
        sums = {k: sums[k] + weight * products[k] for k in sums}
    return sums


def leaves(params: Params) -> Params:
    """The same values as fresh leaves of autograd's graph."""
    return {k: v.detach().requires_grad_() for k, v in params.items()}


def unchanged(phi: Params, grad: Params) -> Params:
    """The direction of line 7: the gradient itself."""
    return grad


class Step(NamedTuple):
    """What the way back needs of an inner step."""
    point: Params                     # p^t, where its gradient was taken
    batch: Batch
    grad: Params                      # ∇L_t(p^t); empty without a regulator
    graphs: list[Params]              # the gradient of each part, with its graph; empty where none is kept


def adapt(loss: Loss, params: Params, batches: list[Batch], inner_lr: float, regulate: Regulate = unchanged,
          phi: Params = {}, kept: int = 0) -> tuple[list[Params], list[Tensor], list[Step]]:
    """Lines 5 to 7: one gradient step per support batch. Returns [p⁰, p¹, …, p'], each step's loss, and the steps.

    The graphs of the last `kept` steps stay. α (`inner_lr`) acts here, and in `meta_gradient` on the way back.
    """
    path, losses, steps = [leaves(params)], [], []
    for number, batch in enumerate(batches):
        p = path[-1]
        graphs: list[Params] = []  # of this step; empty unless they stay
        value, grad = value_and_grad(loss, p, batch, graphs if number >= len(batches) - kept else None)  # line 5
        direction = regulate(phi, grad)  # the gradient itself, where there is no regulator
        losses.append(value)
        steps.append(Step(p, batch, {} if regulate is unchanged else grad, graphs))
        path.append(leaves({k: v - inner_lr * direction[k] for k, v in p.items()}))  # lines 6, 7
    return path, losses, steps


def meta_gradient(loss: Loss, params: Params, support: list[Batch], query: Batch, inner_lr: float,
                  first_order: bool = False, regulate: Regulate = unchanged, phi: Params = {},
                  kept: int = 0) -> tuple[Tensor, Params]:
    """Line 9 for one task: the query loss after adaptation, and its exact gradient with respect to `params` and `phi`.

    support: one batch per inner step. Returns losses [steps + 1], the query loss last, and the gradient.

    With p^{t+1} = p^t - α ∇L_t(p^t), the chain rule gives, from the last step backwards,
    g ← (I - α ∇²L_t(p^t)) g. Each step costs one Hessian-vector product at the stored p^t, so memory
    doesn't grow with the number of steps, as it does with a graph through all of them. Of the last `kept` steps,
    the first ones on the way back, the gradient's own graph was kept: one backward pass, and it is freed.
    With steps r(φ, ∇L_t) it is g ← g - α ∇²L_t u, where u = (∂r/∂∇L)ᵀ g, and φ's gradient gains -α (∂r/∂φ)ᵀ g.
    """
    path, losses, steps = adapt(loss, params, support, inner_lr, regulate, phi, 0 if first_order else kept)
    query_loss, g = value_and_grad(loss, path[-1], query)
    losses = torch.stack([*losses, query_loss])
    g_phi = {k: torch.zeros_like(v) for k, v in phi.items()}
    while steps:
        step = steps.pop()  # and with it goes its graph
        u, along_phi = pull_back(regulate, phi, step.grad, g)
        g_phi = {k: v - inner_lr * along_phi[k] for k, v in g_phi.items()}
        if not first_order:  # which takes dp^{t+1}/dp^t for the identity
            product = hessian_vector(loss, step.point, step.batch, u, step.graphs)
            g = {k: v - inner_lr * product[k] for k, v in g.items()}
    return losses, g | g_phi


def pull_back(regulate: Regulate, phi: Params, grad: Params, vector: Params) -> tuple[Params, Params]:
    """(∂r/∂∇L)ᵀ · vector and (∂r/∂φ)ᵀ · vector, where r = regulate(φ, ∇L)."""
    if regulate is unchanged:
        return vector, {}
    grad, phi = leaves(grad), leaves(phi)
    found = gradient(inner_product(regulate(phi, grad), vector), grad | phi, materialize_grads=True)
    return {k: found[k] for k in grad}, {k: found[k] for k in phi}


def clip_by_norm(grad: Params, clip_norm: float) -> tuple[Params, Tensor]:
    """γ / max(‖G‖, γ) · G over all tensors together (line 10), and ‖G‖ before clipping. γ may be infinite."""
    norm = torch.stack([g.norm() for g in grad.values()]).norm()
    scale = (clip_norm / norm).clamp(max=1)
    return {k: scale * g for k, g in grad.items()}, norm


class AdamState(NamedTuple):
    step: int
    mean: Params    # running mean of gradients
    square: Params  # running mean of squared gradients


def adam_start(params: Params) -> AdamState:
    zeros = {k: torch.zeros_like(p) for k, p in params.items()}
    return AdamState(0, zeros, zeros)


def adam(params: Params, grad: Params, state: AdamState, lr: float, beta1: float = 0.9, beta2: float = 0.999,
         eps: float = 1e-8) -> tuple[Params, AdamState]:
    """One step of Adam (Kingma & Ba 2015): new parameters and new state; the arguments are left as they are."""
    t = state.step + 1
    mean = {k: beta1 * state.mean[k] + (1 - beta1) * g for k, g in grad.items()}
    square = {k: beta2 * state.square[k] + (1 - beta2) * g * g for k, g in grad.items()}
    new = {k: p - lr * (mean[k] / (1 - beta1**t)) / ((square[k] / (1 - beta2**t)).sqrt() + eps)
           for k, p in params.items()}
    return new, AdamState(t, mean, square)


def meta_update(params: Params, grad: Params, state: AdamState, meta_lr: float,
                clip_norm: float) -> tuple[Params, AdamState, Tensor]:
    """Line 10: p ← p - Adam(β) γ / max(‖G‖, γ) · G. Returns p, Adam's state and ‖G‖ before clipping."""
    clipped, norm = clip_by_norm(grad, clip_norm)
    params, state = adam(params, clipped, state, meta_lr)
    return params, state, norm
