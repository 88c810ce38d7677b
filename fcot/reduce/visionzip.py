"""VisionZip (arXiv 2412.04467): the tokens that CLS attends to, and a few merged from the rest."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer
from fcot.reduce.budget import check_share
from fcot.reduce.seen import Kept, Seen, top

MERGES = ("sum", "mean")


class Visionzip(BeforeReducer):
    """Keeps the dominant tokens and merges the others into contextual ones.

    Args:
        keep: Share of the visual tokens that remain, contextual ones included.
        contextual: Share of contextual tokens among those that remain; the paper has 10 of 64.
        merge: A contextual token is its target plus the mean of what joins it ("sum", the reference), or the mean of
            all of them ("mean").
        score: Attention that ranks tokens: "cls" or "received".
        scope: "per_tile" or "per_image".
        positions: "renumbered", contextual tokens behind the dominant ones, or "original".

    Raises:
        UserError: If an option has no such value.
    """

    layers: ClassVar = frozenset({"last"})

    def __init__(
        self,
        keep: float = 0.5,
        *,
        contextual: float = 10 / 64,
        merge: str = "sum",
        score: str = "cls",
        scope: str = "per_tile",
        positions: str = "renumbered",
    ) -> None:
        super().__init__(keep, score=score, scope=scope, positions=positions)
        if contextual != 0:
            check_share("contextual", contextual)
        if merge not in MERGES:
            raise UserError(f"merge is {merge!r}. Use 'sum' or 'mean'.")
        self.contextual, self.merge = contextual, merge

    def reduce(self, seen: Seen) -> Kept:
        """Return dominant tokens in the order of their places, then contextual ones, part by part."""
        features, keys = seen.features.flatten(0, 1), seen.keys().flatten(0, 1)
        scores = seen.scores(self.score).flatten()

        def reduce_part(part: Tensor) -> tuple[Tensor, Tensor]:
            total = self.count(len(scores[part]))
            contextual = 0 if total == len(scores[part]) else round(total * self.contextual)
            return visionzip(
                features[part],
                scores[part],
                keys[part],
                dominant=total - contextual,
                contextual=contextual,
                merge=self.merge,
            )

        return self.over_parts(seen, reduce_part)


def visionzip(
    features: Tensor, scores: Tensor, keys: Tensor, *, dominant: int, contextual: int, merge: str = "sum"
) -> tuple[Tensor, Tensor]:
    """Reduce tokens to dominant and contextual ones.

    Args:
        features: `[N, C]`.
        scores: `[N]`.
        keys: `[N, D]`, what tokens are compared by.
        dominant: How many of the highest scores stay as they are.
        contextual: How many tokens the rest is merged into; fewer if the rest is smaller.
        merge: "sum" or "mean".

    Returns:
        Rows `[dominant + contextual, C]` and the place of each; that of a contextual token is its target's.
    """
    dominant_places = top(scores, dominant).sort().values
    left = torch.ones_like(scores, dtype=torch.bool)
    left[dominant_places] = False
    rest = left.nonzero()[:, 0]
    contextual = min(contextual, len(rest))
    if not contextual:
        return features[dominant_places], dominant_places
    is_target = torch.zeros_like(rest, dtype=torch.bool)
    is_target[:: max(1, len(rest) // contextual)] = True
    is_target &= is_target.cumsum(0) <= contextual
    targets, others = rest[is_target], rest[~is_target]
    directions = normalize(keys.float(), dim=-1)
    joined = (directions[others] @ directions[targets].T).argmax(1)
    target_rows, other_rows = features[targets].float(), features[others].float()
    total = torch.zeros_like(target_rows).index_add_(0, joined, other_rows)
    counts = joined.bincount(minlength=contextual)[:, None]
    merged = target_rows + total / counts.clamp(min=1) if merge == "sum" else (target_rows + total) / (counts + 1)
    rows = torch.cat([features[dominant_places], merged.to(features.dtype)])
    return rows, torch.cat([dominant_places, targets])
