"""The router without weights: four numbers times a tile's ink."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fcot.route.seen import SeenTiles

DARK = 3 * 128  # a pixel whose colours sum to less is ink


def ink(pixels: Tensor) -> Tensor:
    """Return the share of dark pixels of each tile `[tiles]` of uint8 `[tiles, 3, S, S]`."""
    return (pixels.sum(1, dtype=torch.int16) < DARK).float().mean((1, 2))


class InkRule:
    """Predicts a tile's cost from its pixels: a number for thumbnails or other tiles at each ratio, times its ink.

    Args:
        costs: Cost of a tile that is all ink at each ratio above 1, `[2, ratios]`: first of tiles, then of thumbnails.
    """

    reads_features = False

    def __init__(self, costs: Sequence[Sequence[float]]) -> None:
        self.each = [list(map(float, row)) for row in costs]

    def costs(self, seen: SeenTiles) -> Tensor:
        """Return what each tile costs at ratio 1, where that is nothing, and at each above, `[tiles, 1 + ratios]`."""
        each = torch.tensor(self.each)[seen.thumbnail.long()] * ink(seen.pixels).cpu()[:, None]
        return torch.cat([torch.zeros(len(each), 1), each], 1)
