"""A 2-d convolution over the raster: windows are compact rather than long."""

import torch
from torch import Tensor, nn

from fcot.compress.windows import WindowCompressor


class Conv2d(WindowCompressor):
    """2-d convolution with kernel = stride = the window: 1x2 for ratio 2, 2x2 for ratio 4.

    It starts as average pooling with an identity channel map.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.conv = nn.Conv2d(width, width, kernel_size=self.window, stride=self.window)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        with torch.no_grad():
            eye = torch.eye(self.width, device=self.conv.weight.device, dtype=self.conv.weight.dtype)
            self.conv.weight.copy_(eye[:, :, None, None].expand_as(self.conv.weight) / self.ratio)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        raster = tokens.transpose(1, 2).unflatten(2, (self.side, self.side))
        compressed: Tensor = self.conv(raster)
        return compressed.flatten(2).transpose(1, 2)
