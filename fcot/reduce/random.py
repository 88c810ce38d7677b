"""Random visual tokens stay: the control that every selection has to beat."""

import zlib

import torch
from torch import Tensor

from fcot.reduce.before import BeforeReducer, Group, Kept, Seen
from fcot.reduce.budget import check_count, share_of


class Random(BeforeReducer):
    """Keeps tokens by lot; an image's draw is the same in every batch.

    Args:
        keep: Share of visual tokens that stays.
        seed: Another one gives other draws.
        scope: "per_tile" or "per_image".
        positions: "renumbered" or "original".

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(
        self, keep: float = 0.5, seed: int = 0, scope: str = "per_tile", positions: str = "renumbered"
    ) -> None:
        super().__init__(keep=keep, scope=scope, positions=positions)
        self.seed = check_count("seed", seed, 0)

    def reduce(self, seen: Seen) -> Kept:
        """Draw from each group."""
        draw = torch.Generator().manual_seed(zlib.crc32(seen.key.encode(), self.seed))

        def chosen(group: Group) -> Tensor:
            lots = torch.rand(len(group), generator=draw)
            return lots.argsort(stable=True)[: share_of(len(group), self.keep)].to(group.features.device)

        return self.kept_by_group(seen, chosen)
