"""Mean pooling: the paper's compressor without weights (FCoT-VL, Table 3)."""

import numpy as np
from torch import Tensor

from fcot.compress.compressor import Compressor


class Pool(Compressor):
    """Mean of every `ratio` neighbours in raster order; only the projector is trained."""

    @classmethod
    def windows(cls, ratio: int, side: int) -> np.ndarray:
        """Group neighbours in raster order."""
        return np.arange(side * side).reshape(side, side) // ratio

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        pooled: Tensor = tokens.unflatten(1, (-1, self.ratio)).mean(2)
        return pooled
