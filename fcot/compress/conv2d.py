"""A 2-d convolution over the raster: windows are compact rather than long."""

import numpy as np
import torch
from torch import Tensor, nn

from fcot.compress.compressor import Compressor


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


class Conv2d(Compressor):
    """2-d convolution with kernel = stride = the window: 1x2 for ratio 2, 2x2 for ratio 4.

    It starts as average pooling with an identity channel map.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.window = window(ratio, side)
        self.conv = nn.Conv2d(width, width, kernel_size=self.window, stride=self.window)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        with torch.no_grad():
            eye = torch.eye(self.width, device=self.conv.weight.device, dtype=self.conv.weight.dtype)
            self.conv.weight.copy_(eye[:, :, None, None].expand_as(self.conv.weight) / self.ratio)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    @classmethod
    def windows(cls, ratio: int, side: int) -> np.ndarray:
        """Group neighbours in a compact window."""
        (rows, columns), place = window(ratio, side), np.arange(side * side).reshape(side, side)
        return place // side // rows * (side // columns) + place % side // columns

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        raster = tokens.transpose(1, 2).unflatten(2, (self.side, self.side))
        compressed: Tensor = self.conv(raster)
        return compressed.flatten(2).transpose(1, 2)
