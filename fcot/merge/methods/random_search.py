"""Keep the best of random weights: a control with the same number of evaluations as the Shapley values."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from fcot.errors import UserError
from fcot.merge.combine import Combination
from fcot.merge.methods.registry import MERGE_METHODS


@MERGE_METHODS.add
def random_search(
    base: Mapping[str, Tensor],
    checkpoints: Sequence[Mapping[str, Tensor]],
    *,
    utility: Callable[[Combination], float],
    draws: int,
    seed: int = 0,
) -> list[float]:
    """Draw weights uniformly from those that add up to 1 (Dirichlet(1, …, 1)) and keep the best-scored.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        utility: Scores a mixture; higher is better.
        draws: How many mixtures to score; more draws begin with the same ones.
        seed: Seed of the draws.

    Returns:
        w_1 … w_N of the best draw, the first of them if several score the same.

    Raises:
        UserError: If `draws` is below 1.
    """
    check_draws(draws)
    generator = random.Random(seed)
    best: list[float] = []
    best_score = float("-inf")
    for _ in range(draws):
        # exponential variables divided by their sum are distributed as Dirichlet(1, …, 1)
        parts = [generator.expovariate(1.0) for _ in checkpoints]
        weights = [part / sum(parts) for part in parts]
        score = utility(Combination(base, checkpoints, weights))
        if not best or score > best_score:
            best, best_score = weights, score
    return best


def check_draws(draws: int) -> None:
    """Check a number of draws.

    Raises:
        UserError: If it is below 1.
    """
    if draws < 1:
        raise UserError(f"Random search cannot make {draws} draws. Give at least 1.")
