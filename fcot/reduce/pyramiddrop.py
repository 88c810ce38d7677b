"""PyramidDrop: visual tokens are dropped in a few steps on the way up (arXiv 2410.17247)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.attention import attention_of_last
from fcot.reduce.budget import check_share, check_stages, solve
from fcot.reduce.inside import InsideReducer, Row, Selection


class Pyramiddrop(InsideReducer):
    """PyramidDrop keeps, at each stage, the visual tokens that the last prompt token is about to attend to most.

    A stage of factor λ leaves λ times what the one before left, of the number the model was given: int(N · λⁿ). Scores
    are the stage's own layer's.

    Args:
        keep: Share of visual tokens in the last layer, λ to the number of stages; 0.125 without any budget.
        equivalent: Mean share over all layers, in place of `keep`.
        layers: Layers at whose input tokens are dropped; L/4, L/2 and 3L/4 of L layers if not given.
        ratios: Share of visual tokens that each stage leaves, in place of a budget.
        positions: "original" or "renumbered".
        scope: "per_row" or "per_image".

    Raises:
        UserError: If a value is not allowed.
    """

    own_layer = True

    def __init__(
        self,
        keep: float | None = None,
        equivalent: float | None = None,
        layers: Sequence[int] | None = None,
        ratios: Sequence[float] | None = None,
        positions: str = "renumbered",
        scope: str = "per_row",
    ) -> None:
        super().__init__(keep=keep, equivalent=equivalent, default=0.125, positions=positions, scope=scope)
        self.layers, self.ratios = layers, None if ratios is None else tuple(ratios)
        if self.ratios is None:
            return
        if keep is not None or equivalent is not None:
            raise UserError("ratios came besides keep or equivalent, two budgets of one reducer.\nGive one of them.")
        for ratio in self.ratios:
            check_share("ratios", ratio)
        if any(later > ratio for ratio, later in pairwise(self.ratios)):
            raise UserError(f"ratios is {list(self.ratios)}, and rises.\nGive shares of all visual tokens that fall.")

    def stages(self, num_layers: int) -> tuple[int, ...]:
        """Return the layers given, or those after each quarter."""
        given = [num_layers * quarter // 4 for quarter in (1, 2, 3)] if self.layers is None else self.layers
        stages = check_stages("layers", given, num_layers)
        if self.ratios is not None and len(self.ratios) != len(stages):
            raise UserError(
                f"ratios has {len(self.ratios)} values for {len(stages)} stages (layers {list(stages)}).\n"
                "Give one for each layer."
            )
        return stages

    def shares(self, num_layers: int) -> tuple[float, ...]:
        """Return the share of visual tokens that each stage leaves.

        Raises:
            UserError: If the budget is out of reach with these stages.
        """
        stages = self.stages(num_layers)
        if self.ratios is not None:
            return self.ratios
        if self.equivalent is None:
            factor = self.keep ** (1 / len(stages))
            # a power of a root may lie below the number itself, and int() would take a token off
            return (*(factor**stage for stage in range(1, len(stages))), self.keep)
        spans = [end - start for start, end in pairwise((0, *stages, num_layers))]

        def mean(factor: float) -> float:
            return sum(span * factor**stage for stage, span in enumerate(spans)) / num_layers

        factor = solve(mean, self.equivalent, stages[0], num_layers)
        return tuple(factor ** (stage + 1) for stage in range(len(stages)))

    def counts(self, num_visual: int, num_layers: int) -> tuple[int, ...]:
        """Return int(N · share) of each stage, and never 0."""
        return tuple(min(num_visual, max(1, int(num_visual * share))) for share in self.shares(num_layers))

    def observe(self, row: Row, query: Tensor, key: Tensor, scaling: float) -> Tensor | None:
        """Return what the last token attends to `[length]`."""
        return attention_of_last(query, key, scaling)

    def select(self, row: Row, observed: Tensor | None) -> Selection:
        """Keep the tokens with most attention."""
        assert observed is not None
        return Selection(self.best(row, observed))
