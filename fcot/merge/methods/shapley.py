"""Weights in proportion to what each snapshot contributes (paper, model merging)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

from torch import Tensor

from fcot.errors import UserError
from fcot.merge.methods.registry import MERGE_METHODS

ALL_NONPOSITIVE = "all Shapley values are zero or below: uniform weights"


@MERGE_METHODS.add
def shapley(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], *, values: Sequence[float]
) -> list[float]:
    """Turn Shapley values into weights: negative ones count as 0, the rest are divided by their sum.

    If no value is positive the weights are uniform, and a warning says so. The paper leaves this step open.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        values: φ_1 … φ_N.

    Returns:
        w_1 … w_N, which add up to 1.

    Raises:
        UserError: If there are not as many values as checkpoints.
    """
    return shares(values, len(checkpoints), "Shapley")


def shares(values: Sequence[float], count: int, kind: str) -> list[float]:
    """Return the share of each value in the sum of the positive ones; equal shares, with a warning, if none is.

    Args:
        values: One for each checkpoint.
        count: Checkpoints.
        kind: Of the values, for messages.

    Raises:
        UserError: If there are not as many values as checkpoints.
    """
    if len(values) != count:
        raise UserError(f"There are {len(values)} {kind} values for {count} checkpoints. Give one for each.")
    positive = [max(value, 0.0) for value in values]
    total = math.fsum(positive)
    if total == 0.0:
        warnings.warn(ALL_NONPOSITIVE.replace("Shapley", kind), stacklevel=3)
        return [1.0 / count] * count
    return [value / total for value in positive]
