"""HiRED: an image's budget is shared out to tiles by what its thumbnail looks at (arXiv 2408.10945)."""

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer, Kept, Seen
from fcot.reduce.budget import check_choice, check_share
from fcot.reduce.tower import SCORES


class Hired(BeforeReducer):
    """HiRED gives the thumbnail a fixed part of the budget, and tiles what their region of it attracts.

    The thumbnail's attention in the tower's first layer says where there is much to see; in each tile the tokens with
    most attention in its last layer stay. Numbers are rounded down, so a budget may not be used up.

    Args:
        keep: Share of an image's visual tokens that stays.
        alpha: Share of the budget for the thumbnail.
        score: "cls" for the class token's attention, "received" for the mean over all patches.
        positions: "renumbered" or "original".

    Raises:
        UserError: If a value is not allowed.
    """

    layers = (0,)

    def __init__(
        self, keep: float = 0.5, alpha: float = 0.5, score: str = "cls", positions: str = "renumbered"
    ) -> None:
        super().__init__(keep=keep, scope="per_tile", positions=positions)
        self.alpha, self.score = check_share("alpha", alpha), check_choice("score", score, SCORES)

    def reduce(self, seen: Seen) -> Kept:
        """Keep the best tokens of each tile, as many as its budget.

        Raises:
            UserError: If the grid of an image's tiles is not known.
        """
        tiles, tokens = seen.features.shape[:2]
        first, last = seen.look.scores(self.score, 0), seen.look.scores(self.score)
        total = int(tiles * tokens * self.keep)
        columns, rows = seen.grid
        if tiles not in (1, columns * rows + 1):
            raise UserError(
                f"hired has to know how an image was cut, and {tiles} tiles came with a grid of {columns}x{rows}.\n"
                "Give `Batch.grids`, which the data module does."
            )
        if tiles == 1:
            budgets = [max(1, total)]
        else:
            whole, *others = tile_budgets(first[-1], total, (rows, columns), self.alpha)
            budgets = [*others, whole]
        places = [
            scores.argsort(descending=True, stable=True)[:budget].sort().values + tile * tokens
            for tile, (scores, budget) in enumerate(zip(last, budgets, strict=True))
        ]
        kept = torch.cat(places)
        return Kept(seen.flat[kept], kept, torch.tensor([len(each) for each in places], device=kept.device))


def tile_budgets(
    scores: Tensor, total: int, grid: tuple[int, int], alpha: float, *, stripes: bool = False
) -> list[int]:
    """Return how many tokens stay of the whole image's tile, and of each tile in raster order.

    Args:
        scores: What the whole image's tile attends to `[tokens]`.
        total: Tokens that stay in all.
        grid: Rows and columns of tiles.
        alpha: Share for the whole image's tile.
        stripes: Take a tile's region for a stripe of consecutive tokens, as the reference does, not for a block.
    """
    tokens = len(scores)
    whole = min(int(total * alpha), tokens)
    counts = region_counts(scores, int(tokens * (1 - alpha)), grid, stripes=stripes)
    found, rest = int(counts.sum()), total - whole
    return [whole, *(min(int(rest * int(count) / found), tokens) if found else 0 for count in counts)]


def region_counts(scores: Tensor, best: int, grid: tuple[int, int], *, stripes: bool = False) -> Tensor:
    """Return how many of the best tokens lie in each region of a tile `[rows · columns]`; arguments as above."""
    rows, columns = grid
    side = int(len(scores) ** 0.5)
    places = scores.argsort(descending=True, stable=True)[:best]
    if stripes:
        regions = places // (len(scores) // (rows * columns))
    else:
        regions = (places // side) * rows // side * columns + (places % side) * columns // side
    return torch.bincount(regions, minlength=rows * columns)[: rows * columns]
