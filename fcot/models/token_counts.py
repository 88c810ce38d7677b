"""The number of visual tokens of a tile, derived from a model's configuration without its weights."""

from typing import Any

import torch
from torch import Tensor

from fcot.compress import COMPRESSORS, Compressor, make_compressor
from fcot.errors import UserError
from fcot.internvl.tokens import raster_side, tokens_per_tile


class TokenCounts:
    """Counts the visual tokens of tiles: from uint8 `[tiles, 3, S, S]` to int64 `[tiles]`.

    Args:
        config: Configuration of a native InternVL or of a student.

    Attributes:
        compressor: The student's, without weights; None for a native InternVL.

    Raises:
        UserError: If there is no such compressor, or its ratio does not fit a tile.
    """

    def __init__(self, config: Any) -> None:
        self.compressor: Compressor | None = None
        self.most = tokens_per_tile(config, getattr(config, "ratio", 1))  # refuses ratios that do not fit
        if hasattr(config, "compressor"):
            with torch.device("meta"):
                self.compressor = compressor_of(config)
            self.most = self.compressor.max_tokens

    @property
    def varies(self) -> bool:
        """Whether tiles may have different numbers of tokens."""
        return self.compressor is not None and self.compressor.varies

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the visual tokens of each tile, int64 `[tiles]`."""
        if self.compressor is None:
            return torch.full((len(tiles),), self.most)
        return self.compressor.counts(tiles)


def compressor_of(config: Any) -> Compressor:
    """Build the compressor of a student's configuration, with initial weights.

    Raises:
        UserError: If the compressor, its ratio or its placement is unknown, or it reads layers that are not there.
    """
    settings = compressor_settings(config)
    COMPRESSORS[settings["name"]].require_place(config.placement)
    compressor = make_compressor(**settings)
    layers = config.vision_config.num_hidden_layers
    wrong = [level for level in compressor.levels if not 0 <= level <= layers]
    if wrong:
        raise UserError(
            f"The compressor reads layer {wrong[0]} of a vision tower of {layers}.\nGive levels from 0 to {layers}."
        )
    if compressor.levels and config.placement != "before":
        raise UserError(
            f"The compressor reads layers {list(compressor.levels)} of the vision tower, but stands {config.placement} "
            "the projector.\nPlace it before, where tokens are as wide as those of the tower."
        )
    if compressor.varies and compressor.reads_text:
        raise UserError(
            f"The compressor {config.compressor} reads the question and gives tiles different numbers of tokens.\n"
            "Leave one of the two out: tokens are counted before the question is known."
        )
    return compressor


def compressor_settings(config: Any) -> dict[str, Any]:
    """Return the arguments of `make_compressor` for a student's configuration."""
    shuffled = config.vision_config.hidden_size * int(1 / config.downsample_ratio) ** 2
    rows = config.text_config.hidden_size
    return {
        "name": config.compressor,
        "ratio": config.ratio,
        "side": raster_side(config),
        "width": rows if config.placement == "after" else shuffled,
        "options": config.compressor_options,
        "language_width": rows,
    }
