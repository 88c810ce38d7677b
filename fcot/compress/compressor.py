"""The contract of a compressor."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fcot.errors import UserError

PLACES = {
    "before": "'before' (the projector)",
    "after": "'after' (the projector)",
    "instead": "'instead' (of the projector)",
}


class Compressor(nn.Module, ABC):
    """Turns every `ratio` visual tokens of a tile into one.

    Tokens come in raster order, row by row. A subclass takes `ratio`, `side` and `width` as keywords, and its own
    options as further ones. One that takes the projector's place, or reads text, also takes `language_width`, the width
    of the language model's rows. It sets its initial weights in `reset_parameters`.

    `forward` is given the tokens. A compressor with `levels` or `reads_text` is given `Features` in their place.

    A compressor that gives tiles different numbers of tokens overrides `max_tokens` and `counts`. Its `forward` is then
    called as `forward(tokens, counts)`, with a list of integers, and returns the concatenated tokens of all tiles,
    `[sum(counts), width]`.

    Args:
        ratio: How many tokens become one.
        side: Side of the square raster of tokens (16 in InternVL2).
        width: Width C of a token.

    Attributes:
        places: Where it may stand: "before" the projector, on pixel-shuffled features, "after" it, or "instead" of it.
        levels: Layers of the vision tower that it reads beside the last, by number.
        reads_text: Whether it reads the question about a page.
        lead: Tokens that it puts in front of those of a tile's windows, and that stand for the whole tile.

    Raises:
        UserError: If the ratio does not divide the tokens of a tile.
    """

    places: tuple[str, ...] = ("before", "after")
    levels: tuple[int, ...] = ()
    reads_text: bool = False
    lead: int = 0

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__()
        if ratio < 1 or side * side % ratio:
            raise UserError(
                f"Ratio {ratio} does not divide the {side * side} tokens of a {side}x{side} raster. "
                "Choose a divisor, such as 2 or 4."
            )
        self.ratio, self.side, self.width = ratio, side, width

    @classmethod
    def require_place(cls, placement: str) -> None:
        """Check that it may stand at a place.

        Raises:
            UserError: If it may not.
        """
        if placement not in cls.places:
            allowed = " or ".join(PLACES[place] for place in cls.places)
            if cls.places == ("before", "after"):
                allowed = "'before' or 'after' (the projector)"
            raise UserError(f"placement is {placement!r}. Use {allowed} with this compressor.")

    @classmethod
    def windows(cls, ratio: int, side: int) -> np.ndarray | None:
        """Return the number of the output token that stands for each input token, `[side, side]`.

        None, the default, means that output tokens stand for no part of the tile.
        """
        return None

    def count(self, ratio: int) -> int:
        """Return how many tokens a tile has at a ratio."""
        return self.side**2 // ratio + self.lead

    @property
    def max_tokens(self) -> int:
        """The most tokens a tile can have after compression."""
        return self.count(self.ratio)

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

    @property
    def reads_features(self) -> bool:
        """Whether `forward` is given `Features` rather than tokens alone."""
        return bool(self.levels) or self.reads_text

    @abstractmethod
    def forward(self, tokens: Any) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""

    def reset_parameters(self) -> None:
        """Set the initial weights."""

    def start_from(self, projector: Any) -> None:
        """Start from the weights of the teacher's projector, for a compressor that takes its place.

        Args:
            projector: A module with `layer_norm`, `linear_1` and `linear_2`.
        """

    def reset_parts(self) -> None:
        """Draw the weights of all parts anew, as each does by itself; an outer part after those inside it."""
        parts: list[Any] = [*self.modules()]
        for module in reversed(parts):
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()

    @staticmethod
    def start_at_zero(*layers: Any) -> None:
        """Set the weight and bias of layers to zero: the last of a branch that is to add nothing at first."""
        for layer in layers:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
