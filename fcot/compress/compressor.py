"""The contract of a compressor."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Compressor(nn.Module, ABC):
    """Turns every `ratio` visual tokens of a tile into one.

    Tokens come in raster order, row by row. A subclass is constructed as
    `Kind(ratio=…, side=…, width=…)`, sets its initial weights in `reset_parameters`, and works before the
    projector (on pixel-shuffled features) or after it alike.

    Args:
        ratio: How many tokens become one.
        side: Side of the square raster of tokens (16 in InternVL2).
        width: Width C of a token.

    Raises:
        ValueError: If the ratio does not divide the tokens of a tile.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__()
        if ratio < 1 or side * side % ratio:
            raise ValueError(
                f"Ratio {ratio} does not divide the {side * side} tokens of a {side}x{side} raster. "
                "Choose a divisor, 2 or 4 say."
            )
        self.ratio, self.side, self.width = ratio, side, width

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""

    def reset_parameters(self) -> None:
        """Set the initial weights."""
