"""Pack texts of different lengths one after another, without padding; bring them into rectangles, and back."""
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function


class Packing(NamedTuple):
    """Say where the tokens of C texts are among N rows, one text after another without padding.

    >>> pack(torch.tensor([2, 3])).padded
    tensor([[0, 1, 1],
            [2, 3, 4]])
    """
    padded: Tensor    # [C, L] the row of each text's token; after its last one, that one again
    padding: Tensor   # [C * L - N] which of these come after the last one
    own: Tensor       # [N] the other way: where a row is in [C * L]
    position: Tensor  # [N] a row's place in its text, from 0
    last: Tensor      # [C] the row of each text's last token


def pack(lengths: Tensor) -> Packing:
    """Return the packing of texts of so many tokens [C], 1 or more each. It waits for the device, so it belongs before
    a loop, not into it."""
    L = int(lengths.max())
    inside = torch.arange(L, device=lengths.device) < lengths[:, None]  # [C, L] a token, not padding
    padded = inside.flatten().cumsum(0).view(-1, L) - 1                 # [C, L] tokens up to and with this one, less 1
    own = inside.flatten().nonzero().squeeze(1)                         # [N]
    padding = (~inside).flatten().nonzero().squeeze(1)                  # [C * L - N]
    return Packing(padded, padding, own, position=own % L, last=lengths.cumsum(0) - 1)


class Pad(Function):
    """Bring rows [..., N, F] of texts to [..., C * L, F], where padding is zero.

    Unpad takes them back, and each is the other's derivative. Torch's derivative of choosing rows would add up, in
    some order, where there is nothing to add.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return rows.index_select(-2, packing.padded.flatten()).index_fill_(-2, packing.padding, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Unpad.apply(grad, ctx.packing), None


class Unpad(Function):
    """Take from [..., C * L, F] the rows that are not padding, [..., N, F]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return rows.index_select(-2, packing.own)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Pad.apply(grad, ctx.packing), None
