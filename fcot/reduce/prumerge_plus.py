"""LLaVA-PruMerge+ (arXiv 2403.15388): PruMerge with samples at even distances besides the outliers."""

import torch
from torch import Tensor

from fcot.reduce.prumerge import Prumerge, outliers
from fcot.reduce.seen import top


class PrumergePlus(Prumerge):
    """Keeps the outliers of attention and about three times as many tokens at even distances, merged as by PruMerge.

    Args:
        keep: Share of the visual tokens that remain. The most outliers are kept that fit it with their samples, then
            the next highest scores up to it; None, as published, keeps what the outliers and their samples are.
        neighbours: How many of the nearest tokens are added to a kept one.
        score: Attention that ranks tokens, all heads taken as one: "cls" or "received".
        scope: "per_tile" or "per_image".
        positions: "renumbered", the token for the rest last, or "original".

    Raises:
        UserError: If an option has no such value.
    """

    def __init__(
        self,
        keep: float | None = None,
        *,
        neighbours: int = 32,
        score: str = "cls",
        scope: str = "per_tile",
        positions: str = "renumbered",
    ) -> None:
        super().__init__(keep, neighbours=neighbours, score=score, scope=scope, positions=positions)

    def choose(self, scores: Tensor) -> Tensor:
        """Return which tokens of a part are kept."""
        if self.adaptive:
            return with_samples(scores, outliers(scores))
        budget = max(1, self.count(len(scores)) - 1)
        order = top(scores, len(scores)).tolist()
        best = next(
            (k for k in range(budget, 1, -1) if len(set(order[:k]).union(samples(k, len(scores)))) <= budget), 1
        )
        chosen = with_samples(scores, best)[:budget].tolist()
        taken = set(chosen)
        fill = [place for place in order if place not in taken]
        return torch.tensor((chosen + fill)[:budget], device=scores.device)


def with_samples(scores: Tensor, count: int) -> Tensor:
    """Return the highest scores, highest first, then the samples that are not among them."""
    best = top(scores, count)
    taken = set(best.tolist())
    more = [place for place in samples(count, len(scores)) if place not in taken]
    return torch.cat([best, torch.tensor(more, dtype=best.dtype, device=best.device)])


def samples(count: int, tokens: int) -> range:
    """Return the places at even distances that go with a number of outliers; the last token is never one."""
    step = max(1, int(int(tokens / count) / 3))
    return range(0, tokens - 1, step)
