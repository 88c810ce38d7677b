"""Control: tokens chosen by chance. A method that does not beat it has found nothing."""

import hashlib

import torch
from torch import Tensor

from fcot.reduce.before import BeforeReducer
from fcot.reduce.budget import check_count
from fcot.reduce.seen import Kept, Seen


class Random(BeforeReducer):
    """Keeps tokens of each tile by chance, the same ones of an image whatever batch it is in.

    Args:
        keep: Share of the visual tokens that remain.
        seed: Another seed keeps others.
        positions: "renumbered" or "original".

    Raises:
        UserError: If an option has no such value.
    """

    def __init__(self, keep: float = 0.5, *, seed: int = 0, positions: str = "renumbered") -> None:
        super().__init__(keep, positions=positions)
        self.seed = check_count("seed", seed, 0)

    def reduce(self, seen: Seen) -> Kept:
        """Return tokens in the order of their places."""
        features = seen.features.flatten(0, 1)
        name = f"{self.seed}/{seen.image}/{seen.key}".encode()
        chance = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:7], "big"))

        def reduce_part(part: Tensor) -> tuple[Tensor, Tensor]:
            size = len(features[part])
            places = torch.randperm(size, generator=chance)[: self.count(size)].sort().values.to(features.device)
            return features[part][places], places

        return self.over_parts(seen, reduce_part)
