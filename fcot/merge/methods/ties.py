"""TIES (Yadav et al. 2023, arXiv 2306.01708): trim each task vector, elect a sign, average what agrees with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.merge.blockwise import Blockwise
from fcot.merge.methods.registry import MERGE_METHODS

HIGH = 1 << 15  # values of the upper half of a positive fp32's bits
LOW = 1 << 16
INFINITE = 0x7F80  # the upper half of the bits of infinity; NaN has this or more


@MERGE_METHODS.add
def ties(
    base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], *, density: float = 0.2
) -> Mapping[str, Tensor]:
    """Add the trimmed deltas that agree on a sign to θ_base.

    Of each θ_i - θ_base the largest are kept (trim); the sign of their sum is elected; those of that sign are averaged
    (disjoint mean). Trimming ranks within a tensor, as mergekit does; the paper ranks within the whole model.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        density: Share of each delta that is kept; equal magnitudes at its border are all kept.

    Returns:
        The merged tensors, computed at look-up.

    Raises:
        UserError: If `density` is not above 0 and at most 1.
    """
    return Ties(base, checkpoints, check_density(density))


class Ties(Blockwise):
    """Tensors merged by TIES.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        density: Share of each delta that is kept.
    """

    def __init__(self, base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]], density: float) -> None:
        super().__init__(base, checkpoints)
        self.density = density
        self.thresholds: list[float] = []  # of the tensor that is being merged, for each checkpoint

    def prepare(self, name: str) -> None:
        """Find the smallest magnitude that each checkpoint keeps of the tensor."""
        kept = max(1, round(self.density * self.base[name].numel()))
        self.thresholds = [0.0] * len(self.checkpoints) if self.density == 1.0 else self._thresholds(name, kept)

    def mix(self, name: str, start: int, base: Tensor, deltas: Sequence[Tensor]) -> Tensor:
        """Trim, elect and average a piece."""
        trimmed = [
            delta.mul_(delta.abs().float() >= threshold)
            for delta, threshold in zip(deltas, self.thresholds, strict=True)
        ]
        return base + elected_mean(trimmed)

    def _thresholds(self, name: str, kept: int) -> list[float]:
        """Return the magnitude of rank `kept` in each delta, exactly, from counts of its fp32 bits.

        The bits of positive floats are in the order of the floats, so counting their upper halves, then the lower
        halves of those that share the one in question, finds the rank without sorting or holding the tensor.
        """
        highs = [torch.zeros(HIGH, dtype=torch.int64) for _ in self.checkpoints]
        for _, _, deltas in self.pieces(name):
            for count, delta in zip(highs, deltas, strict=True):
                count += torch.bincount(_bits(delta) >> 16, minlength=HIGH)
        if any(count[INFINITE:].any() for count in highs):
            raise self.broken(name)
        found = [_rank(count, kept) for count in highs]  # the upper half, and the rank within it
        lows = [torch.zeros(LOW, dtype=torch.int64) for _ in self.checkpoints]
        for _, _, deltas in self.pieces(name):
            for count, delta, (high, _) in zip(lows, deltas, found, strict=True):
                bits = _bits(delta)
                count += torch.bincount(bits[(bits >> 16) == high] & (LOW - 1), minlength=LOW)
        whole = [(high << 16) | _rank(count, rank)[0] for count, (high, rank) in zip(lows, found, strict=True)]
        return [float(torch.tensor(bits, dtype=torch.int32).view(torch.float32)) for bits in whole]


def elected_mean(deltas: Sequence[Tensor]) -> Tensor:
    """Return the mean of the deltas that have the sign of the sum of all, 0 where there are none; `[piece]` each."""
    elected = torch.stack([*deltas]).sum(dim=0).sign_()
    total, count = torch.zeros_like(elected), torch.zeros_like(elected)
    for delta in deltas:
        agrees = (delta * elected).gt(0).to(delta.dtype)
        total.addcmul_(delta, agrees)  # unlike torch.where, it lets NaN through, which is then refused
        count += agrees
    return total.div_(count.clamp_(min=1.0))


def check_density(density: float) -> float:
    """Return a share of a delta that is kept.

    Raises:
        UserError: If it is not above 0 and at most 1.
    """
    if not 0.0 < density <= 1.0:
        raise UserError(f"density is {density}, a share of each delta.\nGive a number above 0 and at most 1.")
    return density


def _bits(delta: Tensor) -> Tensor:
    return delta.abs().float().cpu().view(torch.int32)


def _rank(counts: Tensor, rank: int) -> tuple[int, int]:
    """Return the value of a rank from counts of the values, the largest of rank 1, and its rank among its equals."""
    above = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(above, rank))
    value = len(counts) - 1 - place
    return value, rank - (int(above[place - 1]) if place else 0)
