"""DivPrune (arXiv 2503.02175): the tokens that lie farthest from each other."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.reduce.before import BeforeReducer
from fcot.reduce.seen import Kept, Seen


class Divprune(BeforeReducer):
    """Keeps tokens so that the least distance between two of them is large, found greedily on projected tokens.

    Args:
        keep: Share of the visual tokens that remain.
        scope: Compare the tokens of each tile ("per_tile"), or of a whole image as the paper does ("per_image").
        positions: "renumbered" or "original".

    Raises:
        UserError: If an option has no such value.
    """

    def __init__(self, keep: float = 0.5, *, scope: str = "per_tile", positions: str = "renumbered") -> None:
        super().__init__(keep, scope=scope, positions=positions)

    def reduce(self, seen: Seen) -> Kept:
        """Return tokens in the order of their places."""
        features = seen.features.flatten(0, 1)
        projected = seen.project(seen.features).flatten(0, 1)

        def reduce_part(part: Tensor) -> tuple[Tensor, Tensor]:
            places = divprune(projected[part], self.count(len(projected[part]))).sort().values
            return features[part][places], places

        return self.over_parts(seen, reduce_part)


def divprune(features: Tensor, count: int) -> Tensor:
    """Choose tokens by greedy max-min on one minus cosine.

    The first one is that whose nearest other token is farthest, then always the one farthest from its nearest chosen.

    Args:
        features: `[N, C]`.
        count: How many to choose, at most N.

    Returns:
        Places in the order of choice `[count]`.
    """
    directions = normalize(features.float(), dim=-1)
    distances = 1 - directions @ directions.T
    others = distances.clone()
    others.fill_diagonal_(float("inf"))
    chosen = torch.empty(count, dtype=torch.int64, device=features.device)
    nearest = others.min(1).values
    for step in range(count):
        place = (nearest == nearest.max()).int().argmax()
        chosen[step] = place
        nearest = distances[place] if step == 0 else nearest.minimum(distances[place])
        nearest = nearest.index_fill(0, chosen[: step + 1], -float("inf"))
    return chosen
