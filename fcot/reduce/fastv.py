"""FastV: visual tokens that a layer hardly looks at are dropped before the next (arXiv 2403.06764)."""

from torch import Tensor

from fcot.reduce.attention import attention_of_last, attention_received
from fcot.reduce.budget import check_choice, check_stages, out_of_reach
from fcot.reduce.inside import InsideReducer, Row, Selection

SCORES = {"last": attention_of_last, "received": attention_received}


class Fastv(InsideReducer):
    """FastV drops, once, the visual tokens that the last prompt token attends to least in the layer before.

    The paper's text says attention received from all tokens, all its code reads the row of the last prompt token.

    Args:
        keep: Share of visual tokens that stays, 1 - R in the paper; half without any budget.
        equivalent: Mean share over all layers, in place of `keep`.
        layer: Layer at whose input tokens are dropped, K in the paper.
        score: "last" for the last prompt token's attention, "received" for the mean over all tokens.
        positions: "original" or "renumbered".
        scope: "per_row" or "per_image".

    Raises:
        UserError: If a value is not allowed.
    """

    scores = tuple(SCORES)

    def __init__(
        self,
        keep: float | None = None,
        equivalent: float | None = None,
        layer: int = 2,
        score: str = "last",
        positions: str = "original",
        scope: str = "per_row",
    ) -> None:
        super().__init__(keep=keep, equivalent=equivalent, default=0.5, positions=positions, scope=scope)
        self.layer, self.score = layer, check_choice("score", score, tuple(SCORES))

    def stages(self, num_layers: int) -> tuple[int, ...]:
        """Return its one layer."""
        return check_stages("layer", (self.layer,), num_layers)

    def counts(self, num_visual: int, num_layers: int) -> tuple[int, ...]:
        """Return round(N · share), halves to even, and never 0."""
        return one_stage_counts(self, num_visual, num_layers)

    def observe(self, row: Row, query: Tensor, key: Tensor, scaling: float) -> Tensor | None:
        """Return the attention that each token gets `[length]`."""
        return SCORES[self.score](query, key, scaling)

    def select(self, row: Row, observed: Tensor | None) -> Selection:
        """Keep the tokens with most attention."""
        assert observed is not None
        return Selection(self.best(row, observed))


def one_stage_counts(reducer: InsideReducer, num_visual: int, num_layers: int) -> tuple[int]:
    """Return how many visual tokens a reducer of one stage keeps: round(N · share), and never 0.

    Raises:
        UserError: If the layers before its stage alone use up the budget.
    """
    (first,) = reducer.stages(num_layers)
    share, target = reducer.keep, reducer.equivalent
    if target is not None:
        share = (target * num_layers - first) / (num_layers - first)
        if share <= 0:
            raise out_of_reach(target, first, num_layers)
    return (max(1, round(num_visual * share)),)
