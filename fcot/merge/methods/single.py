"""Keep one snapshot as it is: the controls that show whether merging helped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fcot.errors import UserError
from fcot.merge.methods.registry import MERGE_METHODS


@MERGE_METHODS.add
def final(base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]]) -> list[float]:
    """Take the last checkpoint, which wins while training has not converged.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N, in training order.

    Returns:
        w_1 … w_N: 1 for the last, 0 for the others.
    """
    return _only(len(checkpoints) - 1, len(checkpoints))


@MERGE_METHODS.add
def best_single(
    base: Mapping[str, Tensor],
    checkpoints: Sequence[Mapping[str, Tensor]],
    *,
    single_utilities: Sequence[float],
) -> list[float]:
    """Take the checkpoint that scores best alone, the later one if several score the same.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N, in training order.
        single_utilities: v({1}) … v({N}).

    Returns:
        w_1 … w_N: 1 for the best, 0 for the others.

    Raises:
        UserError: If there are not as many utilities as checkpoints.
    """
    if len(single_utilities) != len(checkpoints):
        raise UserError(
            f"There are {len(single_utilities)} utilities for {len(checkpoints)} checkpoints. Give one for each."
        )
    best = max(range(len(checkpoints)), key=lambda place: (single_utilities[place], place))
    return _only(best, len(checkpoints))


def _only(chosen: int, count: int) -> list[float]:
    return [1.0 if place == chosen else 0.0 for place in range(count)]
