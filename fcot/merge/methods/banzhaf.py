"""Weights in proportion to Banzhaf values, which weigh all coalitions alike (Wang and Jia 2023, arXiv 2205.15466)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fcot.merge.methods.registry import MERGE_METHODS
from fcot.merge.methods.shapley import shares


@MERGE_METHODS.add
def banzhaf(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], *, banzhaf_values: Sequence[float]
) -> list[float]:
    """Turn Banzhaf values into weights, as `shapley` does with Shapley values.

    Of values that weigh coalitions by their size alone, Banzhaf's keep their ranks best when scores are noisy.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        banzhaf_values: β_1 … β_N.

    Returns:
        w_1 … w_N, which add up to 1; uniform, with a warning, if no value is positive.

    Raises:
        UserError: If there are not as many values as checkpoints.
    """
    return shares(banzhaf_values, len(checkpoints), "Banzhaf")
