"""Algorithm 1 of the paper: MAML (Finn et al. 2017) with gradient clipping, on plain dicts of tensors.

A loss is a function `loss(params, part) -> scalar`. A batch is a list of parts with weights, and its loss their
weighted sum: parts go through the model one after another, so that a batch may be larger than the memory.
An update is a function `update(params, grad) -> params`, the step of line 7; `sgd` is the paper's.
Nothing here knows about prompts, CLIP or images.
"""
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

Params = dict[str, Tensor]
Loss = Callable[[Params, object], Tensor]
Update = Callable[[Params, Params], Params]  # from parameters and a gradient to the next parameters
Batch = list[tuple[object, float]]  # parts and weights


def run(learner: nn.Module, params: Params, *args) -> Tensor:
    """Return `learner(*args)` with `params` in place of its own parameters.

    functional_call alone accepts a misspelt or missing name without a word and falls back to the
    learner's own tensor, which would train nothing; here it is a KeyError.
    """
    known = dict(learner.named_parameters())
    if known.keys() != params.keys():
        raise KeyError(f"parameters {sorted(params.keys() ^ known.keys())} are missing or unknown")
    return functional_call(learner, params, args)


def leaves(params: Params) -> Params:
    """Return the same values as fresh leaves of autograd's graph."""
    return {k: v.detach().requires_grad_() for k, v in params.items()}


def gradient(value: Tensor, params: Params, **options: bool) -> Params:
    """Return ∇ of a value, by the names of `params`; the options are torch.autograd.grad's."""
    return dict(zip(params, torch.autograd.grad(value, tuple(params.values()), **options)))


def value_and_grad(loss: Loss, params: Params, batch: Batch,
                   keep_graphs: bool = False) -> tuple[Tensor, Params, list[Params]]:
    """Return the loss of a batch, its gradient and, with `keep_graphs`, the gradient of each part with its graph.

    A parameter the loss doesn't depend on is an error, not a zero.
    """
    total, sums, graphs = 0.0, {k: torch.zeros_like(p) for k, p in params.items()}, []
    for part, weight in batch:
        value = loss(params, part)
        grads = gradient(value, params, create_graph=keep_graphs)
        if keep_graphs:
            graphs.append(grads)
        total = total + weight * value.detach()
        sums = {k: sums[k] + weight * grads[k].detach() for k in sums}
    return total, sums, graphs


def sgd(inner_lr: float) -> Update:
    """Return the update of line 7, with α = `inner_lr`."""
    def update(params: Params, grad: Params) -> Params:
        return {k: p - inner_lr * grad[k] for k, p in params.items()}  # line 7

    return update


class Step(NamedTuple):
    """An inner step, with all that the way back needs of it."""
    params: Params        # p, before the update
    batch: Batch
    grad: Params          # g = ∇L(p), of the tensors that the loss depends on
    graphs: list[Params]  # the gradient of each part, with its graph; empty where they aren't kept


def adapt(loss: Loss, params: Params, support: list[Batch], update: Update, loss_names: Collection[str] = (),
          kept_graphs: int = 0) -> tuple[Params, list[Tensor], list[Step]]:
    """Take lines 5 to 7, an update for each support batch. Returns the adapted p', each step's loss, and the steps.

    `loss_names`: the parameters that the loss depends on (empty: all). The others, such as a regulator's φ, are the
    update's. `kept_graphs`: how many of the last steps keep their graphs.
    """
    p, losses, steps = leaves(params), [], []
    for number, batch in enumerate(support):
        keep_graphs = number >= len(support) - kept_graphs
        loss_params = {k: p[k] for k in loss_names or p}
        value, grad, graphs = value_and_grad(loss, loss_params, batch, keep_graphs)     # line 5
        losses.append(value)
        steps.append(Step(p, batch, grad, graphs))
        p = leaves(update(p, grad))                                                     # lines 6, 7
    return p, losses, steps


def back_through(step: Step, loss: Loss, update: Update, v: Params, first_order: bool) -> Params:
    """Turn `v`, the query loss's gradient for p', into that for p, where p' = update(p, g): one inner step back.

    With g = ∇L(p) it is (∂p'/∂p)ᵀ v + ∇²L(p) u, where u = (∂p'/∂g)ᵀ v, and ∂p'/∂p holds g fixed. For line 7 that is the
    identity and u = -α v, so that the result is v - α ∇²L(p) v.
    """
    params, grad = step.params, leaves(step.grad)
    updated = update(params, grad)
    products = torch.autograd.grad(tuple(updated.values()), (*params.values(), *grad.values()),
                                   tuple(v[k] for k in updated), materialize_grads=True)
    gradients = dict(zip(params, products))            # for line 7: v
    u = dict(zip(grad, products[len(params) :]))       # for line 7: -α v
    if first_order:  # g counts as a constant
        return gradients
    params = {k: params[k] for k in grad}
    for number, (part, weight) in enumerate(step.batch):
        grads = step.graphs[number] if step.graphs else gradient(loss(params, part), params, create_graph=True)
        inner_product = torch.stack([(grads[k] * u[k]).sum() for k in u]).sum()
        # A parameter may enter a loss linearly, so that its second derivative is a true zero.
        hessian_u = gradient(inner_product, params, materialize_grads=True)
        gradients |= {k: gradients[k] + weight * hessian_u[k] for k in u}
    return gradients


def meta_gradient(loss: Loss, params: Params, support: list[Batch], query: Batch, update: Update,
                  loss_names: Collection[str] = (), first_order: bool = False,
                  kept_graphs: int = 0) -> tuple[Tensor, Params]:
    """Return line 9 for one task: losses [steps + 1], the query loss last, and its exact gradient by all of `params`.

    `support`: one batch per inner step; `loss_names` and `kept_graphs` as in `adapt`. Each step costs one
    Hessian-vector product at its stored p, so memory doesn't grow with the number of steps, as it does with a graph
    through all of them. Where a step's graphs were kept, its gradient isn't computed again.
    """
    adapted, losses, steps = adapt(loss, params, support, update, loss_names, 0 if first_order else kept_graphs)
    loss_params = {k: adapted[k] for k in loss_names or adapted}
    query_loss, query_grad, _ = value_and_grad(loss, loss_params, query)                # lines 8, 9
    v = {k: torch.zeros_like(p) for k, p in params.items()} | query_grad
    while steps:
        v = back_through(steps.pop(), loss, update, v, first_order)  # and with the step go its graphs
    return torch.stack([*losses, query_loss]), v


def clip_by_norm(grad: Params, clip_norm: float) -> tuple[Params, Tensor]:
    """Return γ / max(‖G‖, γ) · G over all tensors together (line 10), and ‖G‖ before clipping. γ may be infinite."""
    norm = torch.stack([g.norm() for g in grad.values()]).norm()
    scale = (clip_norm / norm).clamp(max=1)
    return {k: scale * g for k, g in grad.items()}, norm


class AdamState(NamedTuple):
    """Adam's memory of the gradients so far."""
    step: int
    mean: Params    # running mean of gradients
    square: Params  # running mean of squared gradients


def adam_start(params: Params) -> AdamState:
    """Return the state before the first step, for tensors of these shapes."""
    zeros = {k: torch.zeros_like(p) for k, p in params.items()}
    return AdamState(0, zeros, zeros)


def adam(params: Params, grad: Params, state: AdamState, lr: float, beta1: float = 0.9, beta2: float = 0.999,
         eps: float = 1e-8) -> tuple[Params, AdamState]:
    """Take a step of Adam (Kingma & Ba 2015): new parameters and new state; the arguments are left as they are."""
    t = state.step + 1
    mean = {k: beta1 * state.mean[k] + (1 - beta1) * g for k, g in grad.items()}
    square = {k: beta2 * state.square[k] + (1 - beta2) * g * g for k, g in grad.items()}
    new = {k: p - lr * (mean[k] / (1 - beta1**t)) / ((square[k] / (1 - beta2**t)).sqrt() + eps)
           for k, p in params.items()}
    return new, AdamState(t, mean, square)


def meta_update(params: Params, grad: Params, state: AdamState, meta_lr: float,
                clip_norm: float) -> tuple[Params, AdamState, Tensor]:
    """Take line 10: p ← p - Adam(β) γ / max(‖G‖, γ) · G. Returns p, Adam's state and ‖G‖ before clipping."""
    clipped, norm = clip_by_norm(grad, clip_norm)
    params, state = adam(params, clipped, state, meta_lr)
    return params, state, norm
