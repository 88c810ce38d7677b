"""DART: visual tokens are dropped that are much like a few pivots (arXiv 2502.11494)."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fcot.reduce.budget import check_count, check_stages
from fcot.reduce.fastv import one_stage_counts
from fcot.reduce.inside import InsideReducer, Row, Selection


class Dart(InsideReducer):
    """DART keeps pivots, and for each pivot in turn the visual tokens that are least like it.

    Pivots are the tokens of the largest keys (sum of absolute values) in the layer before: visual ones, then text
    behind the last visual one. Likeness is the cosine of hidden states after the language model's final norm. The
    original draws the order of pivots from the order of a Python set; here larger keys come first.

    Args:
        keep: Share of visual tokens that stays, pivots counted; half without any budget.
        equivalent: Mean share over all layers, in place of `keep`.
        layer: Layer at whose input tokens are dropped.
        image_pivots: How many visual pivots.
        text_pivots: How many pivots of text.
        positions: "original" or "renumbered".

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(
        self,
        keep: float | None = None,
        equivalent: float | None = None,
        layer: int = 2,
        image_pivots: int = 4,
        text_pivots: int = 4,
        positions: str = "original",
    ) -> None:
        super().__init__(keep=keep, equivalent=equivalent, default=0.5, positions=positions)
        self.layer = layer
        self.image_pivots = check_count("image_pivots", image_pivots, 1)
        self.text_pivots = check_count("text_pivots", text_pivots, 0)

    def stages(self, num_layers: int) -> tuple[int, ...]:
        """Return its one layer."""
        return check_stages("layer", (self.layer,), num_layers)

    def counts(self, num_visual: int, num_layers: int) -> tuple[int, ...]:
        """Return round(N · share), and never 0."""
        return one_stage_counts(self, num_visual, num_layers)

    def observe(self, row: Row, query: Tensor, key: Tensor, scaling: float) -> Tensor | None:
        """Return the size of each token's key `[length]`."""
        return key[:, -len(row.visual) :].float().abs().sum((0, 2))

    def select(self, row: Row, observed: Tensor | None) -> Selection:
        """Keep the visual pivots, and tokens unlike the pivots."""
        assert observed is not None
        (budget,) = self.counts(sum(row.images), row.num_layers)
        image, text = self.pivots(row, observed, budget)
        return Selection(unlike(row.norm(row.hidden), row.places(), image, torch.cat([image, text]), budget))

    def pivots(self, row: Row, sizes: Tensor, budget: int) -> tuple[Tensor, Tensor]:
        """Return the places of visual pivots and of those of text, larger keys first."""
        found = []
        for places, count in ((row.places(), min(self.image_pivots, budget)), (row.text_behind(), self.text_pivots)):
            found.append(places[sizes[places].argsort(descending=True, stable=True)[:count]])
        return found[0], found[1]


def unlike(states: Tensor, places: Tensor, kept: Tensor, pivots: Tensor, budget: int) -> Tensor:
    """Return places of visual tokens to keep, in order `[budget]`.

    Args:
        states: Of all tokens `[length, width]`.
        places: Of visual tokens `[visual]`.
        kept: Places of visual tokens that stay anyway.
        pivots: Places of pivots in the order of their turns; the first take one more if turns are not alike.
        budget: Tokens to keep.
    """
    free = torch.zeros(len(states), dtype=torch.bool, device=states.device)
    free[places] = True
    free[kept] = False
    share, more = divmod(budget - len(kept), len(pivots))
    for turn, pivot in enumerate(pivots):
        left = free.nonzero()[:, 0]
        alike = cosine_similarity(states[pivot].float()[None], states[left].float(), dim=-1)
        free[left[alike.argsort(stable=True)[: share + (turn < more)]]] = False
    return places[~free[places]]
