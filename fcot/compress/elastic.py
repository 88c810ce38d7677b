"""Compressors of one kind at several ratios, of which each tile takes one, or none."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fcot.compress.compressor import Compressor
from fcot.errors import UserError


class Elastic(Compressor):
    """Compresses each tile at a ratio of its own; at ratio 1 its tokens stay as they are.

    A tile's number of tokens says which ratio it has.

    Args:
        parts: A compressor for each ratio above 1.
        ratio: Ratio of tiles for which none is asked.

    Raises:
        UserError: If a part chooses numbers of tokens by itself, or two ratios give equal numbers.
    """

    listed = False  # made from a list of ratios, not by a name

    def __init__(self, parts: Mapping[int, Compressor], ratio: int) -> None:
        first = next(iter(parts.values()))
        super().__init__(ratio=ratio, side=first.side, width=first.width)
        if any(part.varies for part in parts.values()):
            raise UserError(
                f"The compressor {type(first).__name__} chooses the number of tokens of each tile itself.\n"
                "Train it at one ratio: an elastic student is told the number."
            )
        self.by_ratio = nn.ModuleDict({str(each): part for each, part in parts.items()})
        self.levels, self.reads_text = first.levels, first.reads_text
        self.ratio_of_count = {self.count(each): each for each in (1, *parts)}
        if len(self.ratio_of_count) <= len(parts) or ratio not in self.ratio_of_count.values():
            raise UserError(
                f"ratios is {[*parts]}, and the ratio asked of none is {ratio}.\n"
                "Give each ratio above 1 once, such as [2, 4]; ratio 1 is always there."
            )

    @property
    def ratios(self) -> list[int]:
        """The ratios above 1."""
        return [int(each) for each in self.by_ratio]

    def part(self, ratio: int) -> Compressor:
        """Return the compressor of a ratio above 1."""
        found: Any = self.by_ratio[str(ratio)]
        return found  # type: ignore[no-any-return]

    def count(self, ratio: int) -> int:
        """Return how many tokens a tile has at one of the ratios."""
        return self.side**2 if ratio == 1 else self.part(ratio).max_tokens

    def counts(self, tiles: Tensor) -> Tensor:
        """Return how many tokens each tile has if none is asked, int64 `[tiles]`."""
        return torch.full((len(tiles),), self.max_tokens)

    def tiles_by_ratio(self, counts: Sequence[int]) -> dict[int, list[int]]:
        """Return the numbers of the tiles of each ratio, 1 and ratios without tiles included.

        Args:
            counts: Tokens of each tile.

        Raises:
            UserError: If no ratio gives a tile so many.
        """
        found: dict[int, list[int]] = {1: [], **{ratio: [] for ratio in self.ratios}}
        for tile, count in enumerate(counts):
            found[self.ratio_of_count[self.check(count)]].append(tile)
        return found

    def check(self, count: Any) -> int:
        """Return the visual tokens asked of a tile if one of the ratios gives so many.

        Raises:
            UserError: If none does.
        """
        if count == "auto":
            raise UserError(
                "visual_tokens is 'auto', and this student has no router that would choose them.\n"
                f"Ask for one of {', '.join(map(str, self.ratio_of_count))}, or fit a router: fcot router fit."
            )
        if count not in self.ratio_of_count:
            raise UserError(
                f"visual_tokens is {count!r}.\nThis student gives a tile "
                f"{', '.join(map(str, self.ratio_of_count))} of them."
            )
        return int(count)

    def check_asked(self, visual_tokens: int | str | None, budget: int | None) -> None:
        """Check what is asked of a request's tiles.

        Raises:
            UserError: If no ratio gives such a number, or both are given.
        """
        if visual_tokens is not None:
            self.check(visual_tokens)
            if budget is not None:
                raise UserError("Both visual_tokens and budget are given.\nGive one of them.")

    def asked(self, num_tiles: int, visual_tokens: int | str | None, budget: int | None) -> Tensor:
        """Return the visual tokens of each of a request's tiles, int64 `[tiles]`.

        Args:
            num_tiles: Tiles of the request.
            visual_tokens: Asked of each tile; None for those of `ratio`.
            budget: Most visual tokens of the request, instead.

        Raises:
            UserError: If no ratio gives such a number, both are given, or the budget is too small.
        """
        self.check_asked(visual_tokens, budget)
        count = self.max_tokens if visual_tokens is None else self.check(visual_tokens)
        return torch.full((num_tiles,), count if budget is None else self.count_within(budget, num_tiles))

    def count_within(self, budget: int, num_tiles: int) -> int:
        """Return the most tokens that each of a request's tiles can have, all the same, within a budget.

        Args:
            budget: Most visual tokens of the request.
            num_tiles: Tiles of all its pages.

        Raises:
            UserError: If not even the fewest fit.
        """
        fits = [count for count in self.ratio_of_count if count * num_tiles <= budget]
        if not fits:
            least = min(self.ratio_of_count)
            raise UserError(
                f"budget is {budget}, and {num_tiles} tiles have at least {num_tiles * least} visual tokens.\n"
                "Give a larger budget, or fewer tiles (max_patches, max_tiles)."
            )
        return max(fits)

    def forward(self, tokens: Tensor, counts: Sequence[int] = ()) -> Tensor:
        """Compress `[tiles, N, width]`, each tile to its count; return the tokens of all tiles `[sum(counts), width]`.

        Compressors that read `Features` are called by the projector, one by one.
        """
        by_ratio = self.tiles_by_ratio(counts)
        found = {
            ratio: tokens[tiles] if ratio == 1 else self.part(ratio)(tokens[tiles]) for ratio, tiles in by_ratio.items()
        }
        return in_order(found, by_ratio, counts)

    def reset_parameters(self) -> None:
        """Set the initial weights of every part."""
        for ratio in self.ratios:
            self.part(ratio).reset_parameters()

    def start_from(self, projector: Any) -> None:
        """Start every part from the teacher's projector, where parts take its place."""
        for ratio in self.ratios:
            self.part(ratio).start_from(projector)


def in_order(rows: Mapping[int, Tensor], tiles: Mapping[int, Sequence[int]], counts: Sequence[int]) -> Tensor:
    """Return rows that were made ratio by ratio in the order of their tiles `[sum(counts), width]`.

    Args:
        rows: Of each ratio's tiles `[its tiles, its tokens, width]`.
        tiles: Numbers of each ratio's tiles.
        counts: Rows of each tile.
    """
    joined = torch.cat([each.flatten(0, 1) for each in rows.values()])
    order = [tile for ratio in rows for tile in tiles[ratio]]
    if order == sorted(order):  # as where all tiles have one ratio
        return joined
    by_tile = dict(zip(order, joined.split([counts[tile] for tile in order]), strict=True))
    return torch.cat([by_tile[tile] for tile in sorted(order)])
