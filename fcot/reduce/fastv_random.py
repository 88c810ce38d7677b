"""A control for FastV: as many visual tokens, at the same layer, by lot."""

import zlib

import torch
from torch import Tensor

from fcot.reduce.budget import check_count, check_stages
from fcot.reduce.fastv import one_stage_counts
from fcot.reduce.inside import InsideReducer, Row, Selection


class FastvRandom(InsideReducer):
    """FastvRandom drops visual tokens where FastV does, but draws those that stay.

    What is drawn depends on the seed and on the prompt's ids alone, so a sample keeps the same tokens in any batch.

    Args:
        keep: Share of visual tokens that stays; half without any budget.
        equivalent: Mean share over all layers, in place of `keep`.
        layer: Layer at whose input tokens are dropped.
        seed: Of the draw.
        positions: "original" or "renumbered".
        scope: "per_row" or "per_image".

    Raises:
        UserError: If a value is not allowed.
    """

    observes = False

    def __init__(
        self,
        keep: float | None = None,
        equivalent: float | None = None,
        layer: int = 2,
        seed: int = 0,
        positions: str = "original",
        scope: str = "per_row",
    ) -> None:
        super().__init__(keep=keep, equivalent=equivalent, default=0.5, positions=positions, scope=scope)
        self.layer, self.seed = layer, check_count("seed", seed, 0)

    def stages(self, num_layers: int) -> tuple[int, ...]:
        """Return its one layer."""
        return check_stages("layer", (self.layer,), num_layers)

    def counts(self, num_visual: int, num_layers: int) -> tuple[int, ...]:
        """Return as many as FastV."""
        return one_stage_counts(self, num_visual, num_layers)

    def select(self, row: Row, observed: Tensor | None) -> Selection:
        """Keep tokens by lot."""
        ids = b"" if row.ids is None else row.ids.to("cpu", torch.int64).numpy().tobytes()
        draw = torch.Generator().manual_seed(zlib.crc32(ids, self.seed))
        return Selection(self.best(row, torch.rand(len(row.visual), generator=draw).to(row.visual.device)))
