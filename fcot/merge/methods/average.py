"""The plain mean of the snapshots, the merge every other one has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fcot.merge.methods.registry import MERGE_METHODS


@MERGE_METHODS.add
def average(base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]]) -> list[float]:
    """Weigh every checkpoint 1/N, so that θ_base cancels out (paper, Table 4: "average").

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.

    Returns:
        w_1 … w_N.
    """
    return [1.0 / len(checkpoints)] * len(checkpoints)
