"""HiRED (arXiv 2408.10945): the thumbnail's attention shares a page's budget out among its tiles."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer, kept
from fcot.reduce.budget import check_share
from fcot.reduce.seen import Kept, Seen, required, top


class Hired(BeforeReducer):
    """Gives each tile a budget by what CLS attends to in the thumbnail's first layer, and keeps a tile's best.

    Budgets are rounded down and never exceed a tile, so that fewer tokens than asked for may remain.

    Args:
        keep: Share of the visual tokens that remain at most.
        alpha: The thumbnail's share of the budget.
        score: Attention that ranks the tokens of a tile: "cls" or "received".
        positions: "renumbered" or "original".

    Raises:
        UserError: If an option has no such value.
    """

    layers: ClassVar = frozenset({"first", "last"})

    def __init__(
        self, keep: float = 0.5, *, alpha: float = 0.5, score: str = "cls", positions: str = "renumbered"
    ) -> None:
        super().__init__(keep, score=score, positions=positions)
        check_share("alpha", alpha)
        self.alpha = alpha

    def reduce(self, seen: Seen) -> Kept:
        """Return tokens in the order of their places.

        Raises:
            UserError: If the grid of an image of several tiles is not given, or does not fit its tiles.
        """
        tokens, thumbnail = seen.features.shape[1], seen.thumbnail % len(seen.features)
        scores = seen.scores(self.score).masked_fill(~seen.is_counted(), -torch.inf)
        chosen = []
        for tile, budget in enumerate(self._budgets(seen)):
            chosen.append(tile * tokens + top(scores[tile], budget).sort().values)
        places = torch.cat(chosen)
        if not len(places):  # an image without any token cannot be read at all
            places = thumbnail * tokens + top(scores[thumbnail], 1)
        return kept(seen, seen.features.flatten(0, 1)[places], places)

    def _budgets(self, seen: Seen) -> list[int]:
        """Return how many tokens each tile keeps."""
        counted = seen.is_counted()
        others: list[int] = counted.sum(1).tolist()
        if len(others) == 1:
            return [int(others[0] * self.keep)]
        rows, columns = seen.grid or (0, 0)
        if rows * columns + 1 != len(others):
            raise UserError(
                f"Image {seen.image} of sample {seen.key!r} has {len(others)} tiles, which is no grid of "
                f"{rows}x{columns} and a thumbnail. Hired needs the rows and columns of each image: give `grids`."
            )
        total, thumbnail = sum(others), seen.thumbnail % len(others)
        whole, rest = split_budget(total, others.pop(thumbnail), self.keep, self.alpha)
        attention = required(seen.first, "first").tiles(slice(thumbnail, thumbnail + 1)).cls()[0]
        # a compressor's tokens may form no raster, but then none is padding
        shown = None if seen.counted is None else torch.cat([counted[:thumbnail], counted[thumbnail + 1 :]])
        credits = block_credits(important(attention, self.alpha), rows, columns, shown)
        budgets = [min(each, most) for each, most in zip(share_out(credits, rest), others, strict=True)]
        return [*budgets[:thumbnail], whole, *budgets[thumbnail:]]


def split_budget(tokens: int, thumbnail: int, keep: float, alpha: float) -> tuple[int, int]:
    """Return what the thumbnail may keep of a budget, and what the other tiles may keep together.

    Args:
        tokens: Tokens of the image, of all tiles.
        thumbnail: Those of the thumbnail.
        keep: Share of all tokens.
        alpha: Share of the thumbnail in that.
    """
    total = int(tokens * keep)
    whole = min(int(total * alpha), thumbnail)
    return whole, total - whole


def important(attention: Tensor, alpha: float) -> Tensor:
    """Return the places of the patches of the thumbnail that CLS attends to most, a share 1 − alpha of `[P]`.

    Returns:
        bool `[P]`.
    """
    mask = torch.zeros_like(attention, dtype=torch.bool)
    mask[top(attention, int(len(attention) * (1 - alpha)))] = True
    return mask


def block_credits(mask: Tensor, rows: int, columns: int, shown: Tensor | None = None) -> list[int]:
    """Count the marked patches of the thumbnail that show each tile of a grid, tiles row by row.

    Args:
        mask: Which are marked `[P]`.
        rows: Rows of tiles.
        columns: Columns of tiles.
        shown: Which tokens of each tile show the image and no padding around it, `[rows · columns, N]` booleans; None
            if all do.
    """
    side = math.isqrt(len(mask))
    shown = torch.ones(rows * columns, 1, dtype=torch.bool, device=mask.device) if shown is None else shown
    per_tile = math.isqrt(shown.shape[1])
    raster = shown.view(rows, columns, per_tile, per_tile).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    line = torch.arange(side, device=mask.device)
    down, along = (raster.any(dim).nonzero()[:, 0] for dim in (1, 0))  # the thumbnail shows these lines alone
    y, x = (lines[line * len(lines) // side] // per_tile for lines in (down, along))
    counts: list[int] = (y[:, None] * columns + x).flatten()[mask].bincount(minlength=rows * columns).tolist()
    return counts


def share_out(credits: Sequence[int], budget: int) -> list[int]:
    """Divide a budget in proportion to credits, rounded down; nothing of what is left over is given out."""
    total = sum(credits)
    return [int(budget * each / total) if total else 0 for each in credits]
