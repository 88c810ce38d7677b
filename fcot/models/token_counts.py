"""The number of visual tokens of a tile, derived from a model's configuration without its weights."""

from typing import Any

import torch
from torch import Tensor

from fcot.compress import COMPRESSORS, Compressor, Elastic, make_compressor
from fcot.errors import UserError
from fcot.internvl.tokens import raster_side, tokens_per_tile
from fcot.models.routing import Routing


class TokenCounts:
    """Counts the visual tokens of tiles: from uint8 `[tiles, 3, S, S]` to int64 `[tiles]`.

    Args:
        config: Configuration of a native InternVL or of a student.
        visual_tokens: Asked of each tile of an elastic student (default: those of its configuration's ratio).
        budget: Most visual tokens of the tiles of one call, instead of a number for each.

    Attributes:
        compressor: The student's, without weights; None for a native InternVL.
        most: Visual tokens of a tile, the maximum where they differ.
        routed: Whether the student's router decides, so that every tile counts as whole until it has: see
            `fcot.models.routed_batch`.

    Raises:
        UserError: If there is no such compressor, its ratio does not fit a tile, or the model cannot give the number
            that is asked for.
    """

    def __init__(self, config: Any, visual_tokens: int | str | None = None, budget: int | None = None) -> None:
        self.compressor: Compressor | None = None
        self.most = tokens_per_tile(config, getattr(config, "ratio", 1))  # refuses ratios that do not fit
        if hasattr(config, "compressor"):
            with torch.device("meta"):
                self.compressor = compressor_of(config)
            self.most = self.compressor.max_tokens
        self.visual_tokens, self.budget, self.routed = visual_tokens, budget, False
        if isinstance(self.compressor, Elastic):
            routing = Routing(self.compressor, getattr(config, "router", None))
            routing.check(visual_tokens, budget)
            self.routed = routing.chooses(visual_tokens, budget)
            if self.routed or budget is not None:
                self.most = max(self.choices)
            else:
                self.most = self.compressor.max_tokens if visual_tokens is None else int(visual_tokens)
        elif budget is not None or visual_tokens not in (None, self.most):
            raise UserError(
                f"visual_tokens is {visual_tokens}, budget {budget}, and this model gives every tile {self.most}.\n"
                "Leave them out, or take an elastic student (Realign with elastic: true)."
            )

    @property
    def asked_for(self) -> dict[str, int | str]:
        """What was asked for, by name; empty if nothing was."""
        asked = {"visual_tokens": self.visual_tokens, "budget": self.budget}
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def choices(self) -> list[int]:
        """The numbers of visual tokens that can be asked of a tile, the most first."""
        return (
            sorted(self.compressor.ratio_of_count, reverse=True)
            if isinstance(self.compressor, Elastic)
            else [self.most]
        )

    @property
    def varies(self) -> bool:
        """Whether tiles may have different numbers of tokens."""
        return self.compressor is not None and self.compressor.varies

    def most_of(self, counts: Tensor) -> int:
        """Return the visual tokens of a tile of an elastic student's request; otherwise `most`.

        Args:
            counts: Of the request's tiles `[tiles]`.
        """
        return int(counts.max()) if isinstance(self.compressor, Elastic) and len(counts) else self.most

    def ratio_of(self, counts: Tensor) -> int:
        """Return the ratio of a request's tiles `[tiles]`, which for an elastic student follows from their counts."""
        if isinstance(self.compressor, Elastic):
            return self.compressor.ratio_of_count[self.most_of(counts)]
        return 1 if self.compressor is None else self.compressor.ratio

    def ratios_of(self, counts: Tensor) -> Tensor:
        """Return the ratio of each tile, int64 `[tiles]`, given its visual tokens `[tiles]`."""
        if isinstance(self.compressor, Elastic):
            return torch.tensor([self.compressor.ratio_of_count[count] for count in counts.tolist()], dtype=torch.int64)
        return torch.full((len(counts),), 1 if self.compressor is None else self.compressor.ratio)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the visual tokens of each tile, int64 `[tiles]`."""
        if self.compressor is None or self.routed:
            return torch.full((len(tiles),), self.most)
        if isinstance(self.compressor, Elastic):
            return self.compressor.asked(len(tiles), self.visual_tokens, self.budget)
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
        **({"ratios": config.ratios} if getattr(config, "ratios", None) else {}),
    }
