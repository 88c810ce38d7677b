"""The contract of a compressor."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from fcot.errors import UserError


class Compressor(nn.Module, ABC):
    """Turns every `ratio` visual tokens of a tile into one.

    Tokens come in raster order, row by row. A subclass takes `ratio`, `side` and `width` as keywords, and its own
    options as further ones. It sets its initial weights in `reset_parameters`, and works both before the projector (on
    pixel-shuffled features) and after it.

    A compressor that gives tiles different numbers of tokens overrides `max_tokens` and `counts`. Its `forward` is then
    called as `forward(tokens, counts)`, with a list of integers, and returns the concatenated tokens of all tiles,
    `[sum(counts), width]`.

    Args:
        ratio: How many tokens become one.
        side: Side of the square raster of tokens (16 in InternVL2).
        width: Width C of a token.

    Raises:
        UserError: If the ratio does not divide the tokens of a tile.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__()
        if ratio < 1 or side * side % ratio:
            raise UserError(
                f"Ratio {ratio} does not divide the {side * side} tokens of a {side}x{side} raster. "
                "Choose a divisor, such as 2 or 4."
            )
        self.ratio, self.side, self.width = ratio, side, width

    @classmethod
    def windows(cls, ratio: int, side: int) -> np.ndarray | None:
        """Return the number of the output token that each input token feeds, `[side, side]`, for pictures.

        None, the default, means that every output token may depend on the whole tile.
        """
        return None

    @property
    def max_tokens(self) -> int:
        """The most tokens a tile can have after compression."""
        return self.side**2 // self.ratio

    def counts(self, tiles: Tensor) -> Tensor:
        """Return how many tokens each tile is compressed to, int64 `[tiles]`; by default the same number for all.

        It is called while data are prepared, on a compressor without weights, and must depend on each tile alone.

        Args:
            tiles: uint8 `[tiles, 3, S, S]`.
        """
        return torch.full((len(tiles),), self.max_tokens)

    @property
    def varies(self) -> bool:
        """Whether tiles may have different numbers of tokens."""
        return type(self).counts is not Compressor.counts

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""

    def reset_parameters(self) -> None:
        """Set the initial weights."""
