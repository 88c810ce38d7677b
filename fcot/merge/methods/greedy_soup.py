"""Greedy soup (Wortsman et al. 2022, arXiv 2203.05482): add snapshots to a mean as long as its score does not fall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from fcot.merge.combine import Combination
from fcot.merge.methods.registry import MERGE_METHODS


@MERGE_METHODS.add
def greedy_soup(
    base: Mapping[str, Tensor],
    checkpoints: Sequence[Mapping[str, Tensor]],
    *,
    single_utilities: Sequence[float],
    utility: Callable[[Combination], float],
) -> list[float]:
    """Try the checkpoints from the best alone to the worst, and keep each that does not lower the score of the mean.

    The means it tries are coalitions: where all of those were scored, it scores nothing more.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N, in training order.
        single_utilities: v({1}) … v({N}); of equal ones the later checkpoint is tried first.
        utility: Scores a mixture; higher is better.

    Returns:
        w_1 … w_N: equal for those kept, 0 for the others.
    """
    order = sorted(range(len(checkpoints)), key=lambda place: (single_utilities[place], place), reverse=True)
    soup = mean_of(order[:1], len(checkpoints))
    kept, best = order[:1], single_utilities[order[0]]
    for place in order[1:]:
        tried = mean_of([*kept, place], len(checkpoints))
        score = utility(Combination(base, checkpoints, tried))
        if score >= best:
            soup, kept, best = tried, [*kept, place], score
    return soup


def mean_of(members: Sequence[int], count: int) -> list[float]:
    """Return the weights of the members' mean among so many checkpoints."""
    return [1.0 / len(members) if place in members else 0.0 for place in range(count)]
