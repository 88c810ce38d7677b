"""The plain mean of the last snapshots: what a run walks around in once it no longer moves on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fcot.errors import UserError
from fcot.merge.methods.registry import MERGE_METHODS


@MERGE_METHODS.add
def tail_average(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], *, last: int = 3
) -> list[float]:
    """Weigh the last checkpoints alike, and the others not at all.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N, in training order.
        last: How many of the last are averaged; all of them if there are fewer.

    Returns:
        w_1 … w_N, which add up to 1.

    Raises:
        UserError: If `last` is below 1.
    """
    if last < 1:
        raise UserError(f"tail_average of the last {last} checkpoints has none to average.\nGive at least 1.")
    left_out = max(0, len(checkpoints) - last)
    taken = len(checkpoints) - left_out
    return [0.0] * left_out + [1.0 / taken] * taken
