"""Neighbouring visual tokens are averaged: the control that a trained compressor starts from."""

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer, Group, Kept, Seen

WINDOWS = {1.0: (1, 1), 0.5: (1, 2), 0.25: (2, 2)}  # rows and columns of a window by share


class Pool(BeforeReducer):
    """Takes the mean of 1x2 or 2x2 neighbours in a tile.

    Args:
        keep: Share of visual tokens that is left: 0.5 or 0.25.
        positions: "renumbered", or "original": a mean takes the first position of its window.

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(self, keep: float = 0.5, positions: str = "renumbered") -> None:
        super().__init__(keep=keep, scope="per_tile", positions=positions)
        if keep not in WINDOWS:
            raise UserError(f"keep is {keep}, which no window of neighbours gives.\nGive 0.5 or 0.25.")

    def reduce(self, seen: Seen) -> Kept:
        """Take means in each tile."""
        rows, columns = WINDOWS[self.keep]

        def pooled(group: Group) -> tuple[Tensor, Tensor]:
            side = int(len(group) ** 0.5)
            if side**2 == len(group):
                cut = (side // rows, rows, side // columns, columns)
            else:  # a compressor's tokens, which form no square: neighbours in their order
                cut = (1, 1, len(group) // (rows * columns), rows * columns)
            means = group.features.unflatten(0, cut).mean((1, 3)).flatten(0, 1)
            places = torch.arange(len(group), device=means.device).reshape(cut)[:, 0, :, 0].flatten()
            return places, means

        return self.merged_by_group(seen, pooled)
