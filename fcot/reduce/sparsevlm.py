"""SparseVLM: text rates visual tokens, and what is dropped is recycled into a few clusters (arXiv 2410.04417)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.attention import row_probabilities
from fcot.reduce.budget import check_count, check_stages, out_of_reach
from fcot.reduce.clusters import density_peaks
from fcot.reduce.inside import InsideReducer, Row, Selection

LAYERS = (2, 6, 15)  # whose output is cut, of 32
SHARES = (300 / 576, 200 / 576, 110 / 576)  # that stages rank best in the paper's largest budget


class Sparsevlm(InsideReducer):
    """SparseVLM keeps, at three stages, the visual tokens that text attends to most, and merges some of the others.

    Raters are the tokens of text behind the last visual one that are like visual tokens, by their embeddings. Fixed
    numbers are kept, as its code does; the rank rule of the paper is in none of it. A stage ranks the merged tokens of
    earlier ones like any other. A sample without raters (no text, or all of it alike) is rated by all of its text, or
    by its last token.

    Args:
        keep: Share of visual tokens in the last layer, merged ones counted; stages take the largest numbers of the
            paper's proportions within it. 0.196 without any budget, the paper's largest; 1 drops nothing.
        equivalent: Mean share over all layers, in place of `keep`.
        layers: Layers at whose input tokens are dropped; 3, 7 and 16 of 32 if not given.
        counts: Numbers of tokens that stages rank best and keep, in place of a budget; merged ones come on top.
        recycle: Merge the best third of what is dropped into clusters.
        positions: "renumbered" as in versions 1 and 1.5, or "original": a merged token has its centre's position.

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(
        self,
        keep: float | None = None,
        equivalent: float | None = None,
        layers: Sequence[int] | None = None,
        counts: Sequence[int] | None = None,
        recycle: bool = True,
        positions: str = "renumbered",
    ) -> None:
        super().__init__(keep=keep, equivalent=equivalent, default=113 / 576, positions=positions)
        self.layers, self.recycle = layers, recycle
        self.fixed = None if counts is None else tuple(check_count("counts", count, 1) for count in counts)
        if self.fixed is not None and (keep is not None or equivalent is not None):
            raise UserError("counts came besides keep or equivalent, two budgets of one reducer.\nGive one of them.")

    def stages(self, num_layers: int) -> tuple[int, ...]:
        """Return the layers given, or those behind the same parts of the model as in the paper."""
        scaled = [round(layer * num_layers / 32) + 1 for layer in LAYERS]
        stages = check_stages("layers", scaled if self.layers is None else self.layers, num_layers)
        wanted = len(SHARES) if self.fixed is None else len(self.fixed)
        if len(stages) != wanted:
            raise UserError(
                f"layers has {len(stages)} stages (layers {list(stages)}), and there are {wanted} numbers of tokens.\n"
                "Give as many layers as counts; without counts, three."
            )
        return stages

    def ranked(self, num_visual: int, num_layers: int) -> tuple[int, ...]:
        """Return how many tokens each stage ranks best and keeps, merged ones left out.

        Raises:
            UserError: If the layers before the first stage alone use up the budget.
        """
        stages = self.stages(num_layers)
        if self.fixed is not None:
            return self.fixed
        if self._share == 1:
            return (num_visual,) * len(stages)
        if self.equivalent is not None and self.equivalent * num_layers <= stages[0]:
            raise out_of_reach(self.equivalent, stages[0], num_layers)
        low, high = 0.0, 1 / SHARES[-1]
        for _ in range(40):
            middle = (low + high) / 2
            spent = self._spent(num_visual, scaled(num_visual, middle), num_layers)
            low, high = (middle, high) if spent <= self._share * num_visual else (low, middle)
        return scaled(num_visual, low)

    @property
    def _share(self) -> float:
        """The budget, of whichever kind."""
        return self.keep if self.equivalent is None else self.equivalent

    def _spent(self, num_visual: int, best: Sequence[int], num_layers: int) -> float:
        """Return what is compared with the budget: tokens in the last layer, or their mean over layers."""
        left = (num_visual, *self._left(num_visual, best))
        if self.equivalent is None:
            return left[-1]
        spans = [end - start for start, end in pairwise((0, *self.stages(num_layers), num_layers))]
        return sum(count * span for count, span in zip(left, spans, strict=True)) / num_layers

    def _left(self, num_visual: int, best: Sequence[int]) -> tuple[int, ...]:
        """Return how many tokens are left after each stage, merged ones counted."""
        left = []
        for count in best:
            kept = min(count, max(num_visual - 1, 1))
            num_visual = kept + (recycled(num_visual - kept)[1] if self.recycle else 0)
            left.append(num_visual)
        return tuple(left)

    def counts(self, num_visual: int, num_layers: int) -> tuple[int, ...]:
        """Return how many tokens are left after each stage, merged ones counted."""
        best = self.ranked(num_visual, num_layers)
        return best if self.fixed is None and self._share == 1 else self._left(num_visual, best)

    def check(self, num_layers: int) -> None:
        """Check that stages and budget fit a language model; merged tokens alone may be more than is allowed."""
        least = self._spent(1000, scaled(1000, 0.0), num_layers) / 1000
        super().check(num_layers)
        if self.fixed is None and self._share < least:
            raise UserError(
                f"{'keep' if self.equivalent is None else 'equivalent'} {self._share:g} is out of reach: with all "
                f"dropped, merged tokens leave {least:.4g}.\nRaise it, or set recycle to False."
            )

    def observe(self, row: Row, query: Tensor, key: Tensor, scaling: float) -> Tensor | None:
        """Return what raters attend to, mean over them and over heads `[length]`."""
        if "raters" not in row.memory:
            row.memory["raters"] = raters(row)
        rows = torch.isin(row.origin, row.memory["raters"]).nonzero()[:, 0]
        return row_probabilities(query, key, rows, scaling).mean((0, 1))[-len(row.visual) :]

    def select(self, row: Row, observed: Tensor | None) -> Selection:
        """Keep the tokens rated best, and merge the best of the others."""
        assert observed is not None
        places, total = row.places(), sum(row.images)
        if self.fixed is None and self._share == 1:
            return Selection(places)
        best = self.ranked(total, row.num_layers)[row.stage]
        order = places[observed[places].argsort(descending=True, stable=True)]
        kept, dropped = order.tensor_split([min(best, max(len(places) - 1, 1))])
        used, clusters = recycled(len(dropped)) if self.recycle else (0, 0)
        if not clusters:
            return Selection(kept.sort().values)
        means, centres = density_peaks(row.hidden[dropped[:used]], clusters)
        return Selection(kept.sort().values, means, dropped[centres])


def scaled(num_visual: int, factor: float) -> tuple[int, ...]:
    """Return the paper's numbers of tokens for so many visual ones, times a factor."""
    return tuple(min(num_visual, max(1, round(num_visual * share * factor))) for share in SHARES)


def recycled(dropped: int) -> tuple[int, int]:
    """Return how many of the dropped tokens are merged, and into how many clusters."""
    used = int(0.3 * dropped) + 1 if dropped else 0
    return used, int(used / 10) + 1 if used else 0


def raters(row: Row) -> Tensor:
    """Return which tokens that entered the first layer rate visual ones `[raters]`: text that is like them.

    Of each visual token's softmax over text, the mean over visual tokens is a text token's likeness. Raters are those
    above the mean of that, all of text if there is none, and the last token without text.
    """
    visual, text = row.places(), row.text_behind()
    if not len(text):
        return row.origin[-1:]
    with torch.autocast(row.embeddings.device.type, enabled=False):
        embeddings = row.embeddings.float()
        likeness = (embeddings[row.origin[visual]] @ embeddings[row.origin[text]].T).softmax(1).mean(0)
    above = likeness > likeness.mean()
    return row.origin[text[above]] if bool(above.any()) else row.origin[text]
