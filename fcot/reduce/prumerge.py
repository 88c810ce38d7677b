"""LLaVA-PruMerge (arXiv 2403.15388): outliers of attention, each with what lies nearest to it merged in."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer
from fcot.reduce.seen import Kept, Seen, required, top


class Prumerge(BeforeReducer):
    """Keeps the outliers of attention, adds their neighbours to them, and one token for all the rest.

    Args:
        keep: Share of the visual tokens that remain, the one for the rest included; None, as published, keeps what
            the outliers of each part are, whose number differs from page to page.
        neighbours: How many of the nearest tokens are added to a kept one.
        score: Attention that ranks tokens, all heads taken as one: "cls" or "received".
        scope: "per_tile" or "per_image".
        positions: "renumbered", the token for the rest last, or "original".

    Raises:
        UserError: If an option has no such value.
    """

    layers: ClassVar = frozenset({"behind"})

    def __init__(
        self,
        keep: float | None = None,
        *,
        neighbours: int = 32,
        score: str = "cls",
        scope: str = "per_tile",
        positions: str = "renumbered",
    ) -> None:
        super().__init__(1.0 if keep is None else keep, score=score, scope=scope, positions=positions)
        if neighbours < 0:
            raise UserError(f"neighbours is {neighbours}. Give a whole number from 0 on.")
        self.adaptive, self.neighbours = keep is None, neighbours

    def reduce(self, seen: Seen) -> Kept:
        """Return kept tokens in the order of their places, then the one for the rest, part by part."""
        attention = required(seen.behind, "behind").one_head()
        features, keys = seen.features.flatten(0, 1), seen.keys_of(attention).flatten(0, 1)
        scores = seen.scores_of(attention, self.score).flatten()

        def reduce_part(part: Tensor) -> tuple[Tensor, Tensor]:
            chosen = self.choose(scores[part]).sort().values
            rows = merge_neighbours(features[part], scores[part], keys[part], chosen, neighbours=self.neighbours)
            return rows, with_rest(chosen, len(scores[part]))

        return self.over_parts(seen, reduce_part)

    def choose(self, scores: Tensor) -> Tensor:
        """Return which tokens of a part are kept."""
        return top(scores, outliers(scores) if self.adaptive else max(1, self.count(len(scores)) - 1))


def outliers(scores: Tensor) -> int:
    """Return how many scores lie above the third quartile by more than 1.5 interquartile ranges, at least 1."""
    values = scores.float().cpu().numpy()
    lower, upper = np.percentile(values, [25, 75])
    return max(1, int((values > upper + 1.5 * (upper - lower)).sum()))


def merge_neighbours(features: Tensor, scores: Tensor, keys: Tensor, chosen: Tensor, *, neighbours: int = 32) -> Tensor:
    """Add to each kept token its nearest others, weighted by their scores, and append the weighted sum of the rest.

    Args:
        features: `[N, C]`.
        scores: `[N]`; the weights, which are not normalised.
        keys: `[N, D]`, what tokens are compared by.
        chosen: Which are kept `[k]`, in the order of the result.
        neighbours: How many of the others are added to one; kept ones are among them.

    Returns:
        `[k + 1, C]`; `[N, C]` if all are kept, as no rest is left then.
    """
    directions = normalize(keys.float(), dim=-1)
    likeness = directions[chosen] @ directions.T
    likeness[torch.arange(len(chosen), device=chosen.device), chosen] = -torch.inf  # a token is not its own neighbour
    nearest = likeness.argsort(dim=1, descending=True, stable=True)[:, : min(neighbours, len(features) - 1)]
    weighted = features.float() * scores.float()[:, None]
    rows = features[chosen].float() + weighted[nearest].sum(1)
    if len(chosen) < len(features):
        rest = torch.ones_like(scores, dtype=torch.bool)
        rest[chosen] = False
        rows = torch.cat([rows, weighted[rest].sum(0, keepdim=True)])
    return rows.to(features.dtype)


def with_rest(chosen: Tensor, tokens: int) -> Tensor:
    """Append the place of the token for the rest: the last one that is not kept. Nothing if all are kept."""
    free = torch.ones(tokens, dtype=torch.bool, device=chosen.device)
    free[chosen] = False
    return torch.cat([chosen, free.nonzero()[-1:, 0]])
