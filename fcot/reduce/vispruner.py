"""VisPruner: the most looked-at visual tokens stay, and of the others those unlike their like (arXiv 2412.01818)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.reduce.before import BeforeReducer, Group, Kept, Seen
from fcot.reduce.budget import check_choice, share_of
from fcot.reduce.tower import SCORES

STEP = 8  # most tokens dropped in a round


class Vispruner(BeforeReducer):
    """VisPruner keeps part of its budget by attention, the rest by dropping duplicates among the others.

    Args:
        keep: Share of visual tokens that stays.
        important: Share of those that is chosen by attention.
        score: "cls" for the class token's attention, "received" for the mean over all patches.
        scope: "per_tile" or "per_image".
        positions: "renumbered" or "original".

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(
        self,
        keep: float = 0.5,
        important: float = 0.5,
        score: str = "cls",
        scope: str = "per_tile",
        positions: str = "renumbered",
    ) -> None:
        super().__init__(keep=keep, scope=scope, positions=positions)
        self.important, self.score = important, check_choice("score", score, SCORES)

    def reduce(self, seen: Seen) -> Kept:
        """Keep important and diverse tokens of each group."""

        def chosen(group: Group) -> Tensor:
            keep = share_of(len(group), self.keep)
            return important_and_diverse(group.features, group.scores(self.score), keep, int(keep * self.important))

        return self.kept_by_group(seen, chosen)


def important_and_diverse(features: Tensor, scores: Tensor, keep: int, important: int) -> Tensor:
    """Return the tokens that stay `[keep]`: the best by score, then what is left after duplicates are dropped.

    Of the others, in falling order of score, up to 8 are dropped at a time until as many are left as are needed: the
    list is cut into even and odd places, and the evens most like some odd are dropped; the other evens, in falling
    likeness, and the odds are the next list. The reference fails on an odd number of tokens, and where a round could
    drop more than there are odds; here it drops as many as there are.

    Args:
        features: `[tokens, width]`.
        scores: `[tokens]`.
        keep: How many stay.
        important: How many of them by score.
    """
    order = scores.argsort(descending=True, stable=True)
    chosen, rest = order[:important], order[important:]
    rows = normalize(features.float(), dim=-1)
    while len(rest) > keep - important:
        even, odd = rest[0::2], rest[1::2]
        dropped = min(STEP, len(rest) - (keep - important), len(odd))
        likeness = (rows[even] @ rows[odd].T).max(1).values
        left = likeness.argsort(descending=True, stable=True)[dropped:]
        rest = torch.cat([even[left], odd])
    return torch.cat([chosen, rest])
