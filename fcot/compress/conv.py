"""The paper's compressor: a 1-d convolution over the token axis (FCoT-VL, section 3.1)."""

import numpy as np
import torch
from torch import Tensor, nn

from fcot.compress.compressor import Compressor


class Conv(Compressor):
    """1-d convolution along raster order with kernel = stride = ratio.

    It starts as average pooling with an identity channel map, so the student starts as the pooling baseline.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.conv = nn.Conv1d(width, width, kernel_size=ratio, stride=ratio)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        with torch.no_grad():
            eye = torch.eye(self.width, device=self.conv.weight.device, dtype=self.conv.weight.dtype)
            self.conv.weight.copy_(eye[:, :, None].expand_as(self.conv.weight) / self.ratio)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    @classmethod
    def windows(cls, ratio: int, side: int) -> np.ndarray:
        """Group neighbours in raster order."""
        return np.arange(side * side).reshape(side, side) // ratio

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        # A window never overlaps the next, so the convolution is one matrix product.
        tiles, count, width = tokens.shape
        windows = tokens.reshape(tiles, count // self.ratio, self.ratio * width)
        weight = self.conv.weight.permute(0, 2, 1).reshape(width, self.ratio * width)
        return nn.functional.linear(windows, weight, self.conv.bias)
