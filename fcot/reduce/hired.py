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
        tiles, tokens = seen.features.shape[:2]
        scores = seen.scores(self.score)
        chosen = []
        for tile, budget in enumerate(self._budgets(seen)):
            chosen.append(tile * tokens + top(scores[tile], budget).sort().values)
        places = torch.cat(chosen)
        if not len(places):  # an image without any token cannot be read at all
            places = (tiles - 1) * tokens + top(scores[-1], 1)
        return kept(seen, seen.features.flatten(0, 1)[places], places)

    def _budgets(self, seen: Seen) -> list[int]:
        """Return how many tokens each tile keeps, the thumbnail last."""
        tiles, tokens = seen.features.shape[:2]
        if tiles == 1:
            return [int(tokens * self.keep)]
        rows, columns = seen.grid or (0, 0)
        if rows * columns + 1 != tiles:
            raise UserError(
                f"Image {seen.image} of sample {seen.key!r} has {tiles} tiles, which is no grid of "
                f"{rows}x{columns} and a thumbnail. Hired needs the rows and columns of each image: give `grids`."
            )
        whole, rest = split_budget(tiles, tokens, self.keep, self.alpha)
        attention = required(seen.first, "first").tiles(slice(tiles - 1, tiles)).cls()[0]
        credits = block_credits(important(attention, self.alpha), rows, columns)
        return [*(min(each, tokens) for each in share_out(credits, rest)), whole]


def split_budget(tiles: int, tokens: int, keep: float, alpha: float) -> tuple[int, int]:
    """Return what the thumbnail may keep of a budget, and what the other tiles may keep together.

    Args:
        tiles: Tiles of the image, thumbnail included.
        tokens: Tokens of a tile.
        keep: Share of all tokens.
        alpha: Share of the thumbnail in that.
    """
    total = int(tiles * tokens * keep)
    whole = min(int(total * alpha), tokens)
    return whole, total - whole


def important(attention: Tensor, alpha: float) -> Tensor:
    """Return the places of the patches of the thumbnail that CLS attends to most, a share 1 − alpha of `[P]`.

    Returns:
        bool `[P]`.
    """
    mask = torch.zeros_like(attention, dtype=torch.bool)
    mask[top(attention, int(len(attention) * (1 - alpha)))] = True
    return mask


def block_credits(mask: Tensor, rows: int, columns: int) -> list[int]:
    """Count the marked patches of the thumbnail `[P]` that show each tile of a grid, tiles row by row."""
    side = math.isqrt(len(mask))
    line = torch.arange(side, device=mask.device)
    tile = (line * rows // side)[:, None] * columns + line * columns // side
    counts: list[int] = tile.flatten()[mask].bincount(minlength=rows * columns).tolist()
    return counts


def share_out(credits: Sequence[int], budget: int) -> list[int]:
    """Divide a budget in proportion to credits, rounded down; nothing of what is left over is given out."""
    total = sum(credits)
    return [int(budget * each / total) if total else 0 for each in credits]
