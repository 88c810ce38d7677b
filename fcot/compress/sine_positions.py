"""Fixed sine and cosine positions of a square raster."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fcot.errors import UserError


def sine_positions(width: int, side: int, device: torch.device | None = None) -> Tensor:
    """Return the position of each place of a raster, `[side², width]` in float32.

    The first half of the channels holds the column, the second the row: each half sines, then cosines, of
    frequencies 10000^(−2i / half) (MAE, and what MQT takes from it).

    Args:
        width: Number of channels.
        side: Side of the raster.
        device: Where the result is to be.

    Raises:
        UserError: If the width is no multiple of 4.
    """
    if width % 4:
        raise UserError(f"Sine positions of width {width} cannot be made. Choose a multiple of 4.")
    return torch.tensor(sine_table(width, side), device=device)


@lru_cache
def sine_table(width: int, side: int) -> np.ndarray:
    """Return what `sine_positions` does as an array; a tensor could be one without values, and must not be cached."""
    frequencies = 10000 ** -(np.arange(width // 4) / (width / 4))
    angles = np.arange(side)[:, None] * frequencies
    line = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    columns, rows = np.tile(line, (side, 1)), np.repeat(line, side, axis=0)
    return np.concatenate([columns, rows], axis=1).astype(np.float32)
