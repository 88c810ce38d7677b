"""MobileVLM v2's lightweight downsampling projector (arXiv 2402.03766)."""

from torch import Tensor, nn
from torch.nn import functional

from fcot.compress.windows import WindowCompressor


class LocalConv(nn.Module):
    """A depth-wise 3x3 convolution over a raster, added to its input.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor, rows: int) -> Tensor:
        """Return tokens of a raster of that many rows `[tiles, tokens, width]`, in the same shape."""
        # a convolution of PyTorch takes no empty raster, but an empty batch
        raster = tokens.transpose(1, 2).unflatten(2, (rows, -1))
        local: Tensor = raster + self.conv(raster)
        return local.flatten(2).transpose(1, 2)


class Ldpv2(WindowCompressor):
    """Mean of a compact window, then a look at its neighbours: a depth-wise 3x3 convolution that starts at zero.

    The original's two linear maps are the model's own projector, which here runs after pooling.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.local = LocalConv(width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        self.start_at_zero(self.local.conv)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        compressed: Tensor = self.local(self.pooled(tokens), self.pooled_raster[0])
        return compressed


class Ldpv2Projector(nn.Module):
    """The projector as published: two linear maps on every patch, pooling, the convolution.

    Args:
        width: Width of a patch.
        language_width: Width of a language row.
        pooled: Rows and columns of the result (12x12 in the original).
    """

    def __init__(self, width: int, language_width: int, pooled: tuple[int, int]) -> None:
        super().__init__()
        self.pooled = pooled
        self.mlp = nn.Sequential(nn.Linear(width, language_width), nn.GELU(), nn.Linear(language_width, language_width))
        self.local = LocalConv(language_width)

    def forward(self, patches: Tensor) -> Tensor:
        """Map a square raster of patches `[tiles, patches, width]` to `[tiles, rows · columns, language_width]`."""
        side = int(patches.shape[1] ** 0.5)
        raster = self.mlp(patches).transpose(1, 2).unflatten(2, (side, side))
        pooled = functional.adaptive_avg_pool2d(raster, self.pooled).flatten(2).transpose(1, 2)
        projected: Tensor = self.local(pooled, self.pooled[0])
        return projected
