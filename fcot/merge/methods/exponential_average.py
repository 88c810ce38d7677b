"""An exponential moving average over the snapshots, in training order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from fcot.errors import UserError
from fcot.merge.methods.registry import MERGE_METHODS


@MERGE_METHODS.add
def exponential_average(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], *, decay: float = 0.5
) -> list[float]:
    """Weigh each checkpoint `decay` times as much as the one after it.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N, in training order.
        decay: 1 weighs all alike.

    Returns:
        w_1 … w_N, which add up to 1.

    Raises:
        UserError: If `decay` is not above 0 and at most 1.
    """
    if not 0.0 < decay <= 1.0:
        raise UserError(f"The decay of exponential_average is {decay}.\nGive a number above 0 and at most 1.")
    parts = [decay ** (len(checkpoints) - 1 - place) for place in range(len(checkpoints))]
    total = math.fsum(parts)
    return [part / total for part in parts]
