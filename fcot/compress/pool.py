"""Mean pooling: the paper's compressor without weights (FCoT-VL, Table 3)."""

from torch import Tensor

from fcot.compress.compressor import Compressor


class Pool(Compressor):
    """Mean of each `ratio` neighbours in raster order; the projector alone learns."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        pooled: Tensor = tokens.unflatten(1, (-1, self.ratio)).mean(2)
        return pooled
