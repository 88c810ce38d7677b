"""Visual tokens that are drawn for each sample, so that an elastic student trains on all its ratios."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

DRAWN = 0x7A105  # keeps these draws apart from others of the same sample


class DrawnTokens:
    """Draws how many visual tokens tiles have, from a seed of each sample alone.

    So a draw depends on neither ranks, workers nor batches, and a resumed run draws the same.

    Args:
        shares: How likely each number of tokens is; shares add up to 1.
        by_tile: Draw for each tile; otherwise all tiles of a sample have the same number.
        otherwise: Visual tokens of a tile where nothing is drawn, as in evaluation.
    """

    def __init__(self, shares: Mapping[int, float], *, by_tile: bool, otherwise: int) -> None:
        self.shares, self.by_tile, self.otherwise = dict(shares), by_tile, otherwise

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the visual tokens of each tile where nothing is drawn, int64 `[tiles]`."""
        return torch.full((len(tiles),), self.otherwise)

    def drawn(self, tiles: Tensor, seed: Sequence[int], pages: Sequence[int] = ()) -> Tensor:
        """Return the visual tokens drawn for each tile of a sample, int64 `[tiles]`.

        Args:
            tiles: Of the sample, `[tiles, 3, S, S]`.
            seed: Of the sample in this epoch.
            pages: Tiles of each of its pages, for those who look at them.
        """
        rng = np.random.default_rng([*seed, DRAWN])
        number = len(tiles) if self.by_tile else 1
        found = rng.choice([*self.shares], number, p=[*self.shares.values()])
        return torch.from_numpy(found.astype(np.int64)).expand(len(tiles)).clone()
