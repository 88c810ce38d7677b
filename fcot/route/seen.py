"""Tiles as a router sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SeenTiles:
    """Tiles of some pages, in order.

    Attributes:
        pixels: uint8 `[tiles, 3, S, S]`.
        pages: Tiles of each page, its thumbnail last if there are several.
        features: Pixel-shuffled features of the vision tower `[tiles, N, C]`, for a router that reads them.
    """

    pixels: Tensor
    pages: Sequence[int]
    features: Tensor | None = None

    @cached_property
    def thumbnail(self) -> Tensor:
        """Which tiles are thumbnails, bool `[tiles]`: the last one of each page of several."""
        last = [number > 1 and tile == number - 1 for number in self.pages for tile in range(number)]
        return torch.tensor(last, dtype=torch.bool)

    @cached_property
    def together(self) -> Tensor:
        """How many tiles each tile's page has, int64 `[tiles]`."""
        numbers = torch.tensor([*self.pages], dtype=torch.int64)
        return numbers.repeat_interleave(numbers)
