"""Give operations derivatives of their own, up to the second, which MAML's outer loop takes.

They are what torch's own would, in fewer passes over the numbers: a layer norm with its first and second derivative
takes torch about 70 operations, here 26, and a GPU waits for each to be started. torch.func's transforms (grad, vmap)
can't be used on them, and a second derivative can't be differentiated once more.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function


def refuse_a_third() -> None:
    if torch.is_grad_enabled():  # by create_graph
        raise RuntimeError("mp/clip/derivatives.py has no third derivatives: take the second without create_graph")


class LayerNorm(nn.LayerNorm):
    """Compute (x - mean) / √(variance + eps) · weight + bias over the last dimension, W."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or self.weight.requires_grad or self.bias.requires_grad:
            return super().forward(x)
        return Norm.apply(x, self.weight, self.bias, self.eps)


class Norm(Function):
    """Compute the layer norm of x [..., W] with frozen weight and bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, scale = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return NormGradient.apply(grad, *ctx.saved_tensors), None, None, None


class NormGradient(Function):
    """Compute the layer norm's gradient for x. With h = (x - mean) · scale, where scale = 1 / √(variance + eps), and
    a = grad · weight, it is

        D(x, grad) = scale · (a' - q h),  where q = mean(a h), and a' is a less its mean.

    For a vector v, with p = mean(v h) and s = mean(v' a'), the derivatives of ⟨v, D⟩ are

        for grad:  weight · scale · (v' - p h)
        for x:     -scale² · ((s - 3 p q) h + q v' + p a')

    where v' is v less its mean. As h has the mean zero, p and q don't change when v and a are centred; from there on
    the code's v and a are the centred ones.
    """

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(grad, x, weight, mean, scale)
        needed = [True, False, False]  # of the gradients for x, weight and bias
        return torch.ops.aten.native_layer_norm_backward(grad, x, weight.shape, mean, scale, weight, None, needed)[0]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        refuse_a_third()
        grad, x, weight, mean, scale = ctx.saved_tensors
        h = (x - mean).mul_(scale)
        a = centred(grad * weight)
        v = centred(v)
        p, q, s = ((first * second).mean(-1, keepdim=True) for first, second in ((v, h), (a, h), (v, a)))
        for_x = (h * (s - 3 * p * q)).addcmul_(v, q).addcmul_(a, p).mul_(-scale * scale)
        for_grad = v.addcmul_(h, p, value=-1).mul_(scale).mul_(weight)
        return for_grad, for_x, None, None, None


def centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(-1, keepdim=True)


class SiLU(Function):
    """Compute x σ(x) for each entry of x [...]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return SiLUGradient.apply(grad, *ctx.saved_tensors)


class SiLUGradient(Function):
    """Compute grad · silu'(x). The second derivative is silu''(x) = σ (1 - σ) (2 + x (1 - 2σ)), with σ = σ(x)."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(grad, x)
        return torch.ops.aten.silu_backward(grad, x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        refuse_a_third()
        grad, x = ctx.saved_tensors
        s = x.sigmoid()
        second = (1 - 2 * s).mul_(x).add_(2).mul_(s).mul_(1 - s)
        return torch.ops.aten.silu_backward(v, x), second.mul_(grad).mul_(v)
