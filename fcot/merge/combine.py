"""θ_base + Σ wᵢ (θᵢ - θ_base): a weighted mixture of checkpoints, tensor by tensor (paper: model merging)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.files.finite import is_finite, pieces
from fcot.merge.checks import blame, check_same_tensors


class Combination(Mapping[str, Tensor]):
    """The weights θ_base + Σ wᵢ (θᵢ - θ_base) as a mapping that computes a tensor when it is asked for.

    Sums are formed in fp32 (fp64 for fp64 tensors) and cast to the base's dtype once, at the end; integers and booleans
    are the base's. No tensor is kept, so memory peaks near four times the largest one: look up each once, copy it and
    drop it. Tensors are on the base's device.

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
        check_same_tensors(base, checkpoints)
        self.base = base
        self.checkpoints = tuple(checkpoints)
        self.weights = tuple(float(weight) for weight in weights)

    def __getitem__(self, name: str) -> Tensor:
        base = self.base[name].detach()
        if not base.is_floating_point():
            return base.clone()
        wide = torch.float64 if base.dtype == torch.float64 else torch.float32
        total = base.to(wide, copy=True, memory_format=torch.contiguous_format)
        used = {place: weight for place, weight in enumerate(self.weights) if weight != 0.0}
        for place, weight in used.items():
            tensor = self.checkpoints[place][name].detach().to(base.device)
            for total_piece, base_piece, piece in zip(pieces(total), pieces(base), pieces(tensor), strict=True):
                delta = piece.to(wide) - base_piece.to(wide)
                # Multiply, then add: one fused call rounds differently from one processor to the next.
                total_piece.add_(delta.mul_(weight))
            del tensor
        merged = total.to(base.dtype)
        if not is_finite(merged):
            raise UserError(blame(name, self.base, {place: self.checkpoints[place] for place in used}))
        return merged

    def __contains__(self, name: object) -> bool:
        return name in self.base

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)


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
