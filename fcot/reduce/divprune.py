"""DivPrune: the visual tokens that differ most from each other stay (arXiv 2503.02175)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.reduce.before import BeforeReducer, Kept, Seen
from fcot.reduce.budget import share_of


class Divprune(BeforeReducer):
    """DivPrune keeps tokens greedily, each the one farthest from its nearest kept one, by cosine of features.

    Args:
        keep: Share of visual tokens that stays.
        scope: "per_tile" or "per_image", which compares all tokens of a page.
        positions: "renumbered" or "original".

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(self, keep: float = 0.5, scope: str = "per_tile", positions: str = "renumbered") -> None:
        super().__init__(keep=keep, scope=scope, positions=positions)

    def reduce(self, seen: Seen) -> Kept:
        """Keep the most diverse tokens of each group."""
        return self.kept_by_group(seen, lambda group: most_diverse(group.features, share_of(len(group), self.keep)))


def most_diverse(features: Tensor, keep: int) -> Tensor:
    """Return the tokens that greedy max-min over 1 - cosine keeps, in the order in which they are taken `[keep]`.

    The first is the one whose nearest other token is farthest; of equal ones the lower comes first.

    Args:
        features: `[tokens, width]`.
        keep: How many.
    """
    rows = normalize(features.float(), dim=-1)
    distance = 1 - rows @ rows.T
    others = distance.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), torch.inf)
    taken = [int(others.min(1).values.argmax())] if len(rows) > 1 else [0]
    nearest = distance[taken[0]].clone()
    while len(taken) < keep:
        nearest[taken] = -torch.inf
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, distance[taken[-1]])
    return torch.tensor(taken[:keep], device=features.device)
