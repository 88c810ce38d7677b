"""Compact windows of the raster: those of a student whose tokens stand for a rectangle each."""

import numpy as np
from torch import Tensor

from fcot.compress.compressor import Compressor
from fcot.errors import UserError


def window(ratio: int, side: int) -> tuple[int, int]:
    """Return the window (rows, columns) of `ratio` tokens that divides the raster and is nearest to a square.

    A tie goes to the wider window. Every ratio that divides the number of tokens has one.
    """
    fits = [
        (rows, ratio // rows)
        for rows in range(1, ratio + 1)
        if ratio % rows == 0 and side % rows == 0 and side % (ratio // rows) == 0
    ]
    return min(fits, key=lambda fit: (abs(fit[0] - fit[1]), fit[0]))


def in_windows(tokens: Tensor, rows: int, columns: int, side: int) -> Tensor:
    """Return the tokens of each window of a raster.

    Args:
        tokens: In raster order `[tiles, side², width]`.
        rows: Rows of a window.
        columns: Columns of a window.
        side: Side of the raster.

    Returns:
        `[tiles, windows, rows · columns, width]`, both windows and their tokens in raster order.
    """
    across = tokens.unflatten(1, (side // rows, rows, side // columns, columns)).transpose(2, 3)
    grouped: Tensor = across.flatten(3, 4).flatten(1, 2)
    return grouped


def raw_raster(tokens: Tensor, side: int) -> Tensor:
    """Undo the pixel shuffle: return the tower's patches `[tiles, 2·side, 2·side, width / 4]`.

    Args:
        tokens: Pixel-shuffled tokens `[tiles, side², width]`; their channels go by row and column within 2x2 patches.
        side: Side of the raster of tokens.

    Raises:
        UserError: If the width is no multiple of 4.
    """
    if tokens.shape[-1] % 4:
        raise UserError(
            f"Tokens of width {tokens.shape[-1]} are not four patches each.\n"
            "Place this compressor before the projector, where they are."
        )
    patches = tokens.unflatten(1, (side, side)).unflatten(3, (2, 2, -1)).transpose(2, 3)
    raster: Tensor = patches.flatten(3, 4).flatten(1, 2)
    return raster


class WindowCompressor(Compressor):
    """A compressor each of whose tokens stands for a compact window: 1x2 for ratio 2, 2x2 for ratio 4."""

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.window = window(ratio, side)

    @classmethod
    def windows(cls, ratio: int, side: int) -> np.ndarray:
        """Group neighbours in a compact window."""
        (rows, columns), place = window(ratio, side), np.arange(side * side).reshape(side, side)
        return place // side // rows * (side // columns) + place % side // columns

    @property
    def pooled_raster(self) -> tuple[int, int]:
        """Rows and columns of the raster of windows."""
        return self.side // self.window[0], self.side // self.window[1]

    def grouped(self, tokens: Tensor) -> Tensor:
        """Return the tokens of each window `[tiles, N // ratio, ratio, width]`."""
        return in_windows(tokens, *self.window, self.side)

    def pooled(self, tokens: Tensor) -> Tensor:
        """Return the mean of each window `[tiles, N // ratio, width]`."""
        return self.grouped(tokens).mean(2)
