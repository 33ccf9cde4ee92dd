"""Pack texts of different lengths one after another, without padding; bring them into a rectangle, and back."""
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function


class Packing(NamedTuple):
    """Say where the tokens of C texts stand: in N rows, one text after another, and in a rectangle of C · L places.

    >>> pack(torch.tensor([2, 3])).padded
    tensor([[0, 1, 1],
            [2, 3, 4]])
    """
    padded: Tensor    # [C, L] the row of the token at each place; after a text's last token, the row of that one
    inside: Tensor    # [N] the place in [C * L] of the token in each row
    padding: Tensor   # [C * L - N] the other places, which come after a text's last token
    position: Tensor  # [N] the position in its text of the token in each row, from 0
    last: Tensor      # [C] the row of each text's last token


def pack(lengths: Tensor) -> Packing:
    """Return the packing of texts of so many tokens [C], 1 or more each. It waits for the device, so it belongs before
    a loop, not into it."""
    L = int(lengths.max())
    is_token = torch.arange(L, device=lengths.device) < lengths[:, None]  # [C, L]
    padded = is_token.flatten().cumsum(0).view(-1, L) - 1  # [C, L] tokens up to and with this one, less 1
    inside = is_token.flatten().nonzero().squeeze(1)       # [N]
    padding = (~is_token).flatten().nonzero().squeeze(1)   # [C * L - N]
    return Packing(padded, inside, padding, position=inside % L, last=lengths.cumsum(0) - 1)


class Pad(Function):
    """Bring the rows of texts, [B, N, F], to their places, [B, C * L, F], where padding is zero.

    `Unpad` takes them back, and each is the other's derivative. Torch's own derivative of choosing rows would add up,
    in some order, where there is nothing to add.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return rows.index_select(-2, packing.padded.flatten()).index_fill_(-2, packing.padding, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Unpad.apply(grad, ctx.packing), None


class Unpad(Function):
    """Take from all places, [B, C * L, F], the rows that are not padding, [B, N, F]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return rows.index_select(-2, packing.inside)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Pad.apply(grad, ctx.packing), None
