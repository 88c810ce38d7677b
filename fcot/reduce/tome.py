"""Token merging: the most alike visual tokens become one, round by round (ToMe, arXiv 2210.09461)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.reduce.before import BeforeReducer, Group, Kept, Seen
from fcot.reduce.budget import share_of


class Tome(BeforeReducer):
    """ToMe's matching behind the vision tower, where merging saves tokens of the language model.

    Within the tower it would save none of these: InternVL's pixel unshuffle needs the whole raster.

    Args:
        keep: Share of visual tokens that is left.
        positions: "renumbered" or "original".

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(self, keep: float = 0.5, positions: str = "renumbered") -> None:
        super().__init__(keep=keep, scope="per_tile", positions=positions)

    def reduce(self, seen: Seen) -> Kept:
        """Merge in each tile, at most half of the tokens in a round."""

        def merged(group: Group) -> tuple[Tensor, Tensor]:
            left = share_of(len(group), self.keep)
            rows, keys, place = group.features, group.keys(), torch.arange(len(group), device=group.features.device)
            size = torch.ones(len(rows), device=rows.device)
            while len(rows) > left:
                match = matching(keys, len(rows) - left)
                keys = merge(keys, size, match)[0]
                rows, size = merge(rows, size, match)
                place = place[match.left]
            return place, rows

        return self.merged_by_group(seen, merged)


class Matching(NamedTuple):
    """What is merged into what.

    Attributes:
        sources: Tokens that go, most alike first.
        targets: What each is merged into.
        left: Tokens that are left, in order.
    """

    sources: Tensor
    targets: Tensor
    left: Tensor


def matching(metric: Tensor, number: int, protected: int = 0) -> Matching:
    """Match tokens at even places with the most alike ones at odd places, and take the most alike pairs.

    Args:
        metric: What likeness is the cosine of `[tokens, width]`.
        number: How many are to go; at most half of what is not protected do.
        protected: Tokens at the beginning that are never merged, 1 for a class token; they count as even.
    """
    tokens = len(metric)
    number = min(number, (tokens - protected) // 2)
    rows = normalize(metric.float(), dim=-1)
    even, odd = (torch.arange(start, tokens, 2, device=metric.device) for start in (0, 1))
    likeness = rows[even] @ rows[odd].T
    likeness[:protected] = -torch.inf
    best, to = likeness.max(1)
    order = best.argsort(descending=True, stable=True)[:number]
    sources = even[order]
    left = torch.ones(tokens, dtype=torch.bool, device=metric.device)
    left[sources] = False
    return Matching(sources, odd[to[order]], left.nonzero()[:, 0])


def merge(rows: Tensor, size: Tensor, match: Matching) -> tuple[Tensor, Tensor]:
    """Return means weighted by size `[left, width]`, and how many tokens each stands for `[left]`.

    Args:
        rows: `[tokens, width]`.
        size: How many tokens each stands for `[tokens]`.
        match: What is merged into what.
    """
    total, sizes = rows.float() * size[:, None], size.clone()
    total = total.index_add(0, match.targets, total[match.sources])
    sizes = sizes.index_add(0, match.targets, size[match.sources])
    return (total / sizes[:, None])[match.left].to(rows.dtype), sizes[match.left]
