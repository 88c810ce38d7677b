"""Control: means over neighbours, which is what a trained compressor starts from."""

import math

import torch

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer, kept
from fcot.reduce.seen import Kept, Seen

WINDOWS = {1.0: (1, 1), 0.5: (1, 2), 0.25: (2, 2)}  # rows and columns of tokens that become one


class Pool(BeforeReducer):
    """Takes the mean over 1x2 or 2x2 neighbours of a tile's raster.

    Padding that LLaVA-NeXT removes is in no mean. Where its edge cuts a window, the mean is over the rest of it, so
    somewhat more than the share may remain there.

    Args:
        keep: Share of the visual tokens that remain: 0.5, 0.25 or 1.
        placement: "before" the projector or "after" it.
        positions: "renumbered", or "original", where a mean has the position of the upper left of its tokens.

    Raises:
        UserError: If an option has no such value.
    """

    def __init__(self, keep: float = 0.5, *, placement: str = "before", positions: str = "renumbered") -> None:
        super().__init__(keep, positions=positions)
        if keep not in WINDOWS:
            raise UserError(f"keep is {keep}, and pool takes means over 2 or 4 tokens. Use 0.5 or 0.25.")
        if placement not in ("before", "after"):
            raise UserError(f"placement is {placement!r}. Use 'before' or 'after' (the projector).")
        self.placement = placement

    def reduce(self, seen: Seen) -> Kept:
        """Return means in the order of their places.

        Raises:
            UserError: If the raster of a tile cannot be divided into such windows.
        """
        tiles, tokens = seen.features.shape[:2]
        side, (rows, columns) = math.isqrt(tokens), WINDOWS[self.keep]
        height, width = (side, side) if side**2 == tokens else (1, tokens)  # a compressor's tokens may form no square
        if height == 1:
            rows, columns = 1, rows * columns
        if height % rows or width % columns:
            raise UserError(
                f"A raster of {height}x{width} tokens cannot be divided into windows of {rows}x{columns}. "
                "Use another reducer."
            )
        raster = torch.arange(tokens, device=seen.features.device).view(height // rows, rows, width // columns, columns)
        windows = raster.transpose(1, 2).reshape(-1, rows * columns)
        after = self.placement == "after"
        features = seen.project(seen.features) if after else seen.features
        counted = seen.is_counted()[:, windows]  # [tiles, windows, tokens of a window]
        total = (features[:, windows].float() * counted[..., None]).sum(2)
        means = total / counted.sum(2).clamp(min=1)[..., None]
        first = windows.gather(1, counted.int().argmax(2).T).T  # a window stands where its first token does
        places = torch.arange(tiles, device=windows.device)[:, None] * tokens + first
        left = counted.any(2)
        return kept(seen, means[left].to(features.dtype), places[left], projected=after)
