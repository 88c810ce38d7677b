"""Gated pooling: a mean whose weights and values are learned for each channel (VisionWeave, arXiv 2610.07987)."""

import torch
from torch import Tensor, nn

from fcot.compress.windows import WindowCompressor


class GatedPool(WindowCompressor):
    """Weighs the tokens of a window, channel by channel, by what the window holds (VisionWeave, eq. 4-6).

    Gate and value have maps of zero at the start, so that it starts as the mean of its window. VisionWeave adds the
    normalised token to the value; here it is the token itself.

    Args:
        ratio: How many tokens become one.
        side: Side of the raster of tokens.
        width: Width of a token.
        inner: Width inside the three MLPs; None for an eighth of a token's.
    """

    def __init__(self, *, ratio: int, side: int, width: int, inner: int | None = None) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        inner = inner or max(1, width // 8)
        self.norm = nn.LayerNorm(width)
        self.summary = nn.Sequential(nn.Linear(ratio * width, inner), nn.GELU(), nn.Linear(inner, width))
        self.place = nn.Parameter(torch.empty(ratio, width))
        self.gate = nn.Sequential(nn.Linear(2 * width, inner), nn.GELU(), nn.Linear(inner, width))
        self.value = nn.Sequential(nn.Linear(2 * width, inner), nn.GELU(), nn.Linear(inner, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        self.reset_parts()
        nn.init.normal_(self.place, std=0.02)
        self.start_at_zero(self.gate[-1], self.value[-1])

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        grouped = self.grouped(tokens)
        normed = self.norm(grouped)
        context = self.summary(normed.flatten(2))[:, :, None] + self.place
        both = torch.cat([normed, context], dim=-1)
        weights = self.gate(both).softmax(2)
        pooled: Tensor = (weights * (grouped + self.value(both))).sum(2)
        return pooled
