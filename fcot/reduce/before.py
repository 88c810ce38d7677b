"""Reducers that act on the features of the vision tower, before the language model reads anything."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.budget import check_share
from fcot.reduce.reducer import Reducer
from fcot.reduce.seen import Kept, Seen

CHOICES = {
    "score": ("cls", "received"),
    "scope": ("per_tile", "per_image"),
    "positions": ("renumbered", "original"),
}


class BeforeReducer(Reducer):
    """Leaves some of the visual tokens of an image, before the projector.

    A subclass names in `layers` whose attention it looks at, by the fields of `Seen`, and lists in its constructor
    those of the options below that it has.

    Args:
        keep: Share of the visual tokens that remain.
        score: Attention that ranks tokens: of the CLS token ("cls"), or the mean over all queries ("received").
        scope: Rank the tokens of each tile ("per_tile"), or of all tiles of an image together ("per_image").
        positions: "renumbered" counts what remains anew; with "original" each token keeps the position it had.

    Raises:
        UserError: If an option has no such value.
    """

    layers: ClassVar[frozenset[str]] = frozenset()
    scores = CHOICES["score"]

    def __init__(
        self, keep: float = 0.5, *, score: str = "cls", scope: str = "per_tile", positions: str = "renumbered"
    ) -> None:
        check_share("keep", keep)
        for option, value in (("score", score), ("scope", scope), ("positions", positions)):
            if value not in CHOICES[option]:
                raise UserError(f"{option} is {value!r}. Use {' or '.join(map(repr, CHOICES[option]))}.")
        self.keep, self.score, self.scope, self.positions = keep, score, scope, positions

    @abstractmethod
    def reduce(self, seen: Seen) -> Kept:
        """Return what remains of one image."""

    def count(self, tokens: int) -> int:
        """Return how many of some tokens remain: the nearest number, but at least one."""
        return max(1, round(self.keep * tokens))

    def over_parts(self, seen: Seen, reduce_part: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Kept:
        """Reduce each part of an image that is ranked on its own.

        Args:
            seen: The image.
            reduce_part: Gets which of the image's T·N tokens the part has `[tokens]`; returns rows, and their places
                in the part.
        """
        counted = seen.is_counted()
        places_of_parts = [counted.flatten().nonzero()[:, 0]]
        if self.scope == "per_tile":
            places_of_parts = list(places_of_parts[0].split(counted.sum(1).tolist()))
        rows, places = [], []
        for part in places_of_parts:
            if len(part):  # a tile may be nothing but padding
                part_rows, part_places = reduce_part(part)
                rows.append(part_rows)
                places.append(part[part_places])
        return kept(seen, torch.cat(rows), torch.cat(places))


def kept(seen: Seen, rows: Tensor, places: Tensor, *, projected: bool = False) -> Kept:
    """Return what remains of an image, rows counted by tile."""
    tiles, tokens = seen.features.shape[:2]
    return Kept(rows, places, (places // tokens).bincount(minlength=tiles), projected)
