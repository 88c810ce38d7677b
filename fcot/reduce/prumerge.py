"""LLaVA-PruMerge: outliers of the class token's attention stay and take in tokens like them (arXiv 2403.15388)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.reduce.before import BeforeReducer, Group, Kept, Seen
from fcot.reduce.budget import check_share, share_of

NEIGHBOURS = 32


class Prumerge(BeforeReducer):
    """PruMerge keeps the tokens that stand out in the class token's attention, and merges the others into them.

    Queries and keys count as one head of the tower's whole width. One more token holds all that was not kept.

    Args:
        keep: Share of visual tokens that is left, that one counted; without it as many stay as stand out.
        positions: "renumbered" or "original": the last token takes the position behind the kept ones.

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(self, keep: float | None = None, positions: str = "renumbered") -> None:
        super().__init__(keep=1.0 if keep is None else keep, scope="per_tile", positions=positions)
        self.share = None if keep is None else check_share("keep", keep)

    def reduce(self, seen: Seen) -> Kept:
        """Keep and merge in each tile."""

        def merged(group: Group) -> tuple[Tensor, Tensor]:
            attention, keys = group.one_head()
            kept = self.chosen(attention).sort().values
            tokens = with_neighbours(group.features, attention, keys, kept)
            return torch.cat([kept, kept.new_full((1,), len(group) - 1)]), tokens

        return self.merged_by_group(seen, merged)

    def chosen(self, attention: Tensor) -> Tensor:
        """Return the places of the tokens that stay, besides the last one, by the attention of each `[tokens]`."""
        if self.share is None:
            return outliers(attention)
        return best(attention, max(1, share_of(len(attention), self.share) - 1))


class PrumergePlus(Prumerge):
    """PruMerge+ keeps tokens at even distances besides those that stand out.

    Args:
        keep: Share of visual tokens that is left, a quarter of them by attention, as in the paper's setting; without
            it as many as stand out, and three times as many at even distances.
        positions: "renumbered" or "original".

    Raises:
        UserError: If a value is not allowed.
    """

    def chosen(self, attention: Tensor) -> Tensor:
        """Return tokens that stand out and tokens at even distances."""
        if self.share is None:
            kept = outliers(attention)
            return torch.cat([kept, samples_between(kept, len(attention))])
        budget = max(1, share_of(len(attention), self.share) - 1)
        kept = best(attention, max(1, round(budget / 4)))
        others = torch.ones_like(attention, dtype=torch.bool)
        others[kept] = False
        rest, number = others.nonzero()[:, 0], budget - len(kept)
        even = torch.arange(number, device=rest.device) * len(rest) // max(1, number)
        return torch.cat([kept, rest[even]])


def outliers(attention: Tensor) -> Tensor:
    """Return the tokens whose attention is above the third quartile by 1.5 interquartile ranges, at least one.

    Args:
        attention: `[tokens]`.

    Returns:
        Places in falling order of attention.
    """
    values = attention.float().cpu().numpy()
    low, high = np.percentile(values, 25), np.percentile(values, 75)
    return best(attention, max(1, int((values > high + 1.5 * (high - low)).sum())))


def best(scores: Tensor, keep: int) -> Tensor:
    """Return the places of the highest scores in falling order; of equal ones the lower comes first."""
    return scores.argsort(descending=True, stable=True)[:keep]


def samples_between(kept: Tensor, tokens: int) -> Tensor:
    """Return places at even distances that are not kept, three times as dense as the kept ones; never the last token.

    Args:
        kept: Places `[kept]`.
        tokens: How many there are.
    """
    step = max(1, int(int(1 / (len(kept) / tokens)) / 3))
    every = torch.arange(0, tokens - 1, step, device=kept.device)
    return every[~torch.isin(every, kept)]


def with_neighbours(features: Tensor, attention: Tensor, keys: Tensor, kept: Tensor) -> Tensor:
    """Return each kept token plus its 32 nearest others by their attention, and one token of all that was not kept.

    Args:
        features: `[tokens, width]`.
        attention: Weights of the sums `[tokens]`.
        keys: Say what is near, by cosine `[tokens, width of keys]`.
        kept: Places `[kept]`.

    Returns:
        `[kept + 1, width]`.
    """
    rows = normalize(keys.float(), dim=-1)
    likeness = rows[kept] @ rows.T
    likeness[torch.arange(len(kept)), kept] = -torch.inf
    near = likeness.topk(min(NEIGHBOURS, features.shape[0] - 1), dim=1).indices
    weighted = features.float() * attention.float()[:, None]
    tokens = features[kept].float() + weighted[near].sum(1)
    others = torch.ones_like(attention, dtype=torch.bool)
    others[kept] = False
    return torch.cat([tokens, weighted[others].sum(0, keepdim=True)]).to(features.dtype)
