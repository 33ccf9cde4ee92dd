"""Pack texts of different lengths one after another, without padding; bring them into a rectangle, and back."""
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function


class Packing(NamedTuple):
    """Say where the tokens of C texts stand: in N rows, one text after another, and in a rectangle of C · L places.

    >>> pack(torch.tensor([2, 3])).row_at_place
    tensor([[0, 1, 1],
            [2, 3, 4]])
    """
    row_at_place: Tensor  # [C, L] the row at each place; padding repeats the row of the text's last token
    place_of_row: Tensor  # [N] the place in [C * L] of the token in each row
    padding: Tensor       # [C * L - N] the other places, which come after a text's last token
    position: Tensor      # [N] the position in its text of the token in each row, from 0
    last: Tensor          # [C] the row of each text's last token


def pack(lengths: Tensor) -> Packing:
    """Return the packing of texts of so many tokens [C], 1 or more each. It waits for the device, so it belongs before
    a loop, not into it."""
    L = int(lengths.max())
    is_token = torch.arange(L, device=lengths.device) < lengths[:, None]  # [C, L]
    row_at_place = is_token.flatten().cumsum(0).view(-1, L) - 1  # [C, L] tokens up to and with this one, less 1
    place_of_row = is_token.flatten().nonzero().squeeze(1)       # [N]
    padding = (~is_token).flatten().nonzero().squeeze(1)         # [C * L - N]
    return Packing(row_at_place, place_of_row, padding, position=place_of_row % L, last=lengths.cumsum(0) - 1)


class Pad(Function):
    """Bring the rows of texts, [B, N, F], to their places, [B, C * L, F], where padding is zero.

    `Unpad` takes them back, and each is the other's derivative. Torch's own derivative of choosing rows adds up what
    comes from each place, slowly or in no fixed order, though here no two places share a row.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return rows.index_select(-2, packing.row_at_place.flatten()).index_fill_(-2, packing.padding, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Unpad.apply(grad, ctx.packing), None


class Unpad(Function):
    """Take from all places, [B, C * L, F], the rows that are not padding, [B, N, F]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return rows.index_select(-2, packing.place_of_row)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Pad.apply(grad, ctx.packing), None
