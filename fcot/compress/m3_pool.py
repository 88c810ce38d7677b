"""Matryoshka multimodal models: average pooling after the projector (M3, arXiv 2405.17430)."""

from torch import Tensor
from torch.nn import functional

from fcot.compress.windows import WindowCompressor


class M3Pool(WindowCompressor):
    """Mean of a compact window, without weights: M3's pooling where the window is square.

    M3 pools after the projector and trains only the model. Its windows are square, so that it cannot halve 256 tokens;
    here ratio 2 has windows of 1x2.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        return self.pooled(tokens)


def m3_pooled(tokens: Tensor, asked: int) -> Tensor:
    """Pool as M3's code does, to whatever number of tokens it gives for a number asked for.

    Its window has a side of int(√(tokens / asked)): asked for 128 of 256 tokens, it returns all 256.

    Args:
        tokens: A square raster `[tiles, tokens, width]`.
        asked: Tokens asked for.

    Returns:
        `[tiles, given, width]`.
    """
    count = tokens.shape[1]
    raster = tokens.transpose(1, 2).unflatten(2, (int(count**0.5), -1))
    pooled = functional.avg_pool2d(raster, int((count / asked) ** 0.5))
    return pooled.flatten(2).transpose(1, 2)
