"""VisPruner (arXiv 2412.01818): important tokens by attention, diverse ones by what they look like."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer
from fcot.reduce.seen import Kept, Seen, top

AT_A_TIME = 8  # most duplicates dropped between two looks at what is left


class Vispruner(BeforeReducer):
    """Keeps the tokens attended to most, and of the others those that are least like each other.

    Args:
        keep: Share of the visual tokens that remain.
        important: Share of those chosen by attention among those that remain.
        score: Attention that ranks tokens: "cls" or "received".
        scope: "per_tile" or "per_image".
        positions: "renumbered" or "original".

    Raises:
        UserError: If an option has no such value.
    """

    layers: ClassVar = frozenset({"last"})

    def __init__(
        self,
        keep: float = 0.5,
        *,
        important: float = 0.5,
        score: str = "cls",
        scope: str = "per_tile",
        positions: str = "renumbered",
    ) -> None:
        super().__init__(keep, score=score, scope=scope, positions=positions)
        if not 0 <= important <= 1:
            raise UserError(f"important is {important}. It is a share: give a number from 0 to 1.")
        self.important = important

    def reduce(self, seen: Seen) -> Kept:
        """Return tokens in the order of their places."""
        features, scores = seen.features.flatten(0, 1), seen.scores(self.score).flatten()

        def reduce_part(part: Tensor) -> tuple[Tensor, Tensor]:
            total = self.count(len(scores[part]))
            important = int(total * self.important)
            places = vispruner(features[part], scores[part], important=important, diverse=total - important)
            return features[part][places], places

        return self.over_parts(seen, reduce_part)


def vispruner(features: Tensor, scores: Tensor, *, important: int, diverse: int) -> Tensor:
    """Choose tokens by score and by diversity.

    Args:
        features: `[N, C]`, compared by cosine.
        scores: `[N]`.
        important: How many are chosen by score.
        diverse: How many of the others remain when duplicates are dropped.

    Returns:
        Places of the chosen tokens, in order `[important + diverse]`.
    """
    order = top(scores, len(scores))
    chosen, rest = order[:important], order[important:]
    directions = normalize(features.float(), dim=-1)
    likeness = directions @ directions.T
    while len(rest) > diverse > 0:
        drop = min(AT_A_TIME, len(rest) - diverse, len(rest) // 2)
        even, odd = rest[::2], rest[1::2]
        nearest = likeness[even[:, None], odd].max(1).values
        rest = torch.cat([even[top(nearest, len(even))[drop:]], odd])
    return torch.cat([chosen, rest[:diverse]]).sort().values
