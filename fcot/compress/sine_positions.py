"""Fixed sine and cosine positions of a square raster."""

from functools import lru_cache

import torch
from torch import Tensor

from fcot.errors import UserError


@lru_cache
def sine_positions(width: int, side: int) -> Tensor:
    """Return the position of each place of a raster, `[side², width]` in float32 on the CPU.

    The first half of the channels holds the column, the second the row: each half sines, then cosines, of
    frequencies 10000^(−2i / half) (MAE, and what MQT takes from it).

    Raises:
        UserError: If the width is no multiple of 4.
    """
    if width % 4:
        raise UserError(f"Sine positions of width {width} cannot be made. Choose a multiple of 4.")
    with torch.device("cpu"):
        frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
        angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
        line = torch.cat([angles.sin(), angles.cos()], dim=1)
        columns, rows = line.repeat(side, 1), line.repeat_interleave(side, dim=0)
        return torch.cat([columns, rows], dim=1).float()
