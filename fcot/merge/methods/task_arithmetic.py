"""Task arithmetic: θ_base plus a fixed share of the task vectors θ_i - θ_base (paper, Table 4).

The paper gives 0.5 without saying whether it scales the mean or the sum of the task vectors; both are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fcot.merge.methods.registry import MERGE_METHODS


@MERGE_METHODS.add
def task_arithmetic_mean(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], *, scale: float = 0.5
) -> list[float]:
    """Add `scale` times the mean of the task vectors: a step of that length from θ_base to the average.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        scale: The share of the mean task vector.

    Returns:
        w_1 … w_N, which add up to `scale`.
    """
    return [scale / len(checkpoints)] * len(checkpoints)


@MERGE_METHODS.add
def task_arithmetic_sum(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], *, scale: float = 0.5
) -> list[float]:
    """Add `scale` times the sum of the task vectors, which overshoots once N · `scale` is above 1.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        scale: The share of every task vector.

    Returns:
        w_1 … w_N, which add up to N · `scale`.
    """
    return [scale] * len(checkpoints)
