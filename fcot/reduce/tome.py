"""Token merging (arXiv 2210.09461) on the tokens that the language model would read."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.reduce.before import BeforeReducer
from fcot.reduce.seen import Kept, Seen


class Tome(BeforeReducer):
    """Merges the tokens that are most alike, in rounds that at most halve their number.

    The paper merges within the vision tower. InternVL's tower needs its whole raster to the end, so the same matching
    acts on its result here, with the keys of its last layer; the keys of a merged token are the mean of those merged.

    Args:
        keep: Share of the visual tokens that remain.
        scope: "per_tile" or "per_image".
        positions: "renumbered" or "original", where a merged token has the position of the one merged into.

    Raises:
        UserError: If an option has no such value.
    """

    layers: ClassVar = frozenset({"last"})

    def __init__(self, keep: float = 0.5, *, scope: str = "per_tile", positions: str = "renumbered") -> None:
        super().__init__(keep, scope=scope, positions=positions)

    def reduce(self, seen: Seen) -> Kept:
        """Return merged tokens in the order of their places."""
        features, keys = seen.features.flatten(0, 1), seen.keys().flatten(0, 1)

        def reduce_part(part: Tensor) -> tuple[Tensor, Tensor]:
            rows, metric = features[part].float(), keys[part]
            sizes, places = torch.ones_like(metric[:, 0]), torch.arange(len(rows), device=rows.device)
            target = self.count(len(rows))
            while len(rows) > target:
                sources, into = match(metric, len(rows) - target)
                (rows, metric), sizes, left = merge((rows, metric), sizes, sources, into)
                places = places[left]
            return rows.to(features.dtype), places

        return self.over_parts(seen, reduce_part)


def match(metric: Tensor, count: int, *, protected: int = 0) -> tuple[Tensor, Tensor]:
    """Find the tokens at even places that are most like one at an odd place.

    Args:
        metric: What tokens are compared by, cosine `[n, D]`.
        count: How many tokens to merge; at most half of those not protected are.
        protected: 1 if the first token, CLS, is not to be merged.

    Returns:
        Places of the tokens to merge and of those to merge them into `[r]`, most alike first.
    """
    count = min(count, (len(metric) - protected) // 2)
    directions = normalize(metric.float(), dim=-1)
    likeness = directions[::2] @ directions[1::2].T
    likeness[:protected] = -torch.inf
    best, odd = likeness.max(1)
    even = best.argsort(descending=True, stable=True)[:count]
    return 2 * even, 2 * odd[even] + 1


def merge(
    values: tuple[Tensor, ...], sizes: Tensor, sources: Tensor, targets: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Merge tokens into others, as means weighted by how many tokens each stands for already.

    Args:
        values: Each `[n, …]`.
        sizes: `[n]`.
        sources: Which are merged `[r]`.
        targets: Into which `[r]`.

    Returns:
        Values `[n - r, …]` in the order of places, sizes `[n - r]`, and the places that are left.
    """
    left = torch.ones_like(sizes, dtype=torch.bool)
    left[sources] = False
    total = sizes.index_add(0, targets, sizes[sources])
    changed = torch.zeros_like(left)
    changed[targets] = True
    merged = []
    for each in values:
        weights = sizes[:, None]
        weighted = each * weights
        mean = weighted.index_add(0, targets, weighted[sources]) / total[:, None]
        merged.append(torch.where(changed[:, None], mean, each)[left])  # what is not merged stays to the bit
    return merged, total[left], left.nonzero()[:, 0]
