"""DARE (Yu et al. 2023, arXiv 2311.03099): drop parts of each task vector at random, and rescale what is left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from fcot.errors import UserError, nearest
from fcot.merge.blockwise import Blockwise
from fcot.merge.methods.registry import MERGE_METHODS
from fcot.merge.methods.ties import check_density, elected_mean

ELECTIONS = ("linear", "ties")


@MERGE_METHODS.add
def dare(
    base: Mapping[str, Tensor],
    checkpoints: Sequence[Mapping[str, Tensor]],
    *,
    density: float = 0.5,
    election: Literal["linear", "ties"] = "linear",
    seed: int = 0,
) -> Mapping[str, Tensor]:
    """Add the mean of randomly thinned deltas to θ_base.

    Each parameter of each θ_i - θ_base is kept with probability `density` and divided by it, else dropped; so the mean
    stays what it was, with noise.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        density: Probability of keeping a parameter's delta.
        election: linear averages all thinned deltas; ties those that have the sign of their sum.
        seed: Seed of what is dropped.

    Returns:
        The merged tensors, computed at look-up; the same at each.

    Raises:
        UserError: If `density` is not above 0 and at most 1, or there is no such election.
    """
    if election not in ELECTIONS:
        raise UserError(f"The election of dare is {election!r}.{nearest(election, ELECTIONS)}")
    return Dare(base, checkpoints, check_density(density), election, seed)


class Dare(Blockwise):
    """Tensors merged by DARE.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        density: Probability of keeping a parameter's delta.
        election: linear or ties.
        seed: Seed of what is dropped.
    """

    def __init__(
        self,
        base: Mapping[str, Tensor],
        checkpoints: Sequence[Mapping[str, Tensor]],
        density: float,
        election: str,
        seed: int,
    ) -> None:
        super().__init__(base, checkpoints)
        self.density, self.election, self.seed = density, election, seed

    def mix(self, name: str, start: int, base: Tensor, deltas: Sequence[Tensor]) -> Tensor:
        """Thin and average a piece."""
        thinned = [
            delta.mul_(self._kept(name, start, place, len(base)).to(delta.device)).div_(self.density)
            for place, delta in enumerate(deltas)
        ]
        return base + (elected_mean(thinned) if self.election == "ties" else sum(thinned) / len(thinned))

    def _kept(self, name: str, start: int, place: int, size: int) -> Tensor:
        """Return which elements of a piece are kept, `[size]`: whatever is looked up in whatever order, the same."""
        key = hashlib.sha256(f"{self.seed} {place} {start} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7]))
        return torch.rand(size, generator=generator) < self.density
