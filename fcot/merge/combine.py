"""θ_base + Σ wᵢ (θᵢ - θ_base): a weighted mixture of checkpoints, tensor by tensor (paper: model merging)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.files.finite import is_finite
from fcot.merge.blockwise import Blockwise


class Combination(Blockwise):
    """The weights θ_base + Σ wᵢ (θᵢ - θ_base), computed tensor by tensor.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N, with the base's names, shapes and dtypes.
        weights: w_1 … w_N; a checkpoint whose weight is 0 is not read.

    Raises:
        UserError: If the checkpoints differ in their tensors, a weight is not finite, there are not as many
            weights as checkpoints, or (at look-up) a merged tensor holds NaN or infinity.
    """

    def __init__(
        self,
        base: Mapping[str, Tensor],
        checkpoints: Sequence[Mapping[str, Tensor]],
        weights: Sequence[float],
    ) -> None:
        if len(weights) != len(checkpoints):
            raise UserError(f"There are {len(weights)} weights for {len(checkpoints)} checkpoints. Give one for each.")
        if not all(math.isfinite(weight) for weight in weights):
            raise UserError(f"The merge weights {list(weights)} are not all finite. Give real numbers.")
        super().__init__(base, checkpoints)
        self.weights = tuple(float(weight) for weight in weights)
        self.used = [place for place, weight in enumerate(self.weights) if weight != 0.0]

    def __getitem__(self, name: str) -> Tensor:
        """Return a merged tensor; that of one checkpoint of weight 1 to the last bit, which the sum may round."""
        tensor = self.base[name].detach()
        if [self.weights[place] for place in self.used] != [1.0] or not tensor.is_floating_point():
            return super().__getitem__(name)
        only = self.checkpoints[self.used[0]][name].detach()
        if not is_finite(only):
            raise self.broken(name)
        return only.to(tensor.device, copy=True, memory_format=torch.contiguous_format)

    def mix(self, name: str, start: int, base: Tensor, deltas: Sequence[Tensor]) -> Tensor:
        """Add the weighted deltas to the base."""
        total = base.clone()
        for place, delta in zip(self.used, deltas, strict=True):
            # Multiply, then add: one fused call rounds differently from one processor to the next.
            total.add_(delta.mul_(self.weights[place]))
        return total


def coalition_weights(members: Collection[str], all_players: Sequence[str]) -> list[float]:
    """Return the weights of a coalition's mean: 1/|S| for members, else 0; the empty coalition is θ_base.

    Args:
        members: The coalition S.
        all_players: Every snapshot's name, in training order.

    Raises:
        UserError: If a member is not a player.
    """
    for member in members:
        if member not in all_players:
            raise UserError(f"'{member}' is not one of the snapshots. They are: {', '.join(all_players)}.")
    return [1.0 / len(set(members)) if player in members else 0.0 for player in all_players]
