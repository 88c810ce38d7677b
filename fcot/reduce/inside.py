"""The contract of reducers that act between two layers of the language model."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.reduce.budget import check_choice, check_share
from fcot.reduce.reducer import Reducer

POSITIONS = ("original", "renumbered")
SCOPES = ("per_row", "per_image")


@dataclass(frozen=True)
class Row:
    """One sample without padding, as it comes to a stage: the tokens of this forward pass, none of a cache.

    Attributes:
        hidden: Hidden states `[length, width]`.
        positions: Position of each token `[length]`.
        visual: Which tokens are visual, merged ones included `[length]`.
        image: Number of each token's image in the sample, for visual ones `[length]`. Visual tokens without text
            between them are one image.
        origin: Place of each token among those that entered the first layer, -1 for merged ones `[length]`.
        embeddings: What entered the first layer `[tokens, width]`.
        ids: Ids of what entered the first layer `[tokens]`, None if it came as embeddings.
        images: Visual tokens of each image as they entered the first layer.
        stage: Number of the stage, from 0.
        num_layers: Layers of the language model.
        norm: The language model's final norm.
        memory: What a reducer wants to know of this sample at later stages.
    """

    hidden: Tensor
    positions: Tensor
    visual: Tensor
    image: Tensor
    origin: Tensor
    embeddings: Tensor
    ids: Tensor | None
    images: tuple[int, ...]
    stage: int
    num_layers: int
    norm: Callable[[Tensor], Tensor]
    memory: dict[str, Tensor] = field(default_factory=dict)

    def places(self) -> Tensor:
        """Return where visual tokens stand, in order."""
        return self.visual.nonzero()[:, 0]

    def text_behind(self) -> Tensor:
        """Return where text stands behind the last visual token, in order; all of it if nothing is visual."""
        places = self.places()
        after = int(places[-1]) + 1 if len(places) else 0
        return torch.arange(after, len(self.visual), device=self.visual.device)


class Selection(NamedTuple):
    """What is left of a sample's visual tokens.

    Attributes:
        kept: Places of visual tokens that stay `[kept]`.
        merged: Hidden states of new tokens `[merged, width]`, if any.
        like: Places of dropped tokens whose positions the new ones take `[merged]`.
    """

    kept: Tensor
    merged: Tensor | None = None
    like: Tensor | None = None

    def order(self, row: Row, renumbered: bool) -> Tensor:
        """Return the places of all tokens that are left, text included, in their new order; new ones count on.

        New tokens stand at their positions, or behind the last kept visual token where positions are counted anew.
        """
        length, device = len(row.visual), row.visual.device
        places = torch.cat([(~row.visual).nonzero()[:, 0], self.kept]).sort().values
        if self.merged is None or self.like is None:
            return places
        new = torch.arange(length, length + len(self.merged), device=device)
        if not renumbered:
            both = torch.cat([places, new])
            return both[torch.cat([places, self.like]).argsort(stable=True)]
        cut = int((places <= self.kept.max()).sum())
        return torch.cat([places[:cut], new, places[cut:]])


class InsideReducer(Reducer):
    """Drops or merges visual tokens at the input of some layers of the language model.

    Layers count from 0, and none may act at layer 0: its cache is what generation counts tokens by. A subclass says
    where it cuts, what it has to see of the attention, and what stays of one sample. It keeps no state of its own, so
    that one may serve several threads.

    Attributes:
        own_layer: It sees queries and keys that the stage's own layer makes of its input, not those of the layer
            before.
        observes: It has to see queries and keys at all.

    Args:
        keep: Share of a sample's visual tokens that is left in the last layer, in (0, 1].
        equivalent: Mean share over the inputs of all layers, in (0, 1]; in place of `keep`.
        default: Value of `keep` if neither is given.
        positions: "original" keeps each token's position, "renumbered" counts them anew after each stage.
        scope: "per_row" ranks all visual tokens of a sample together, "per_image" those of each image alone.

    Raises:
        UserError: If a value is not allowed, or both budgets are given.
    """

    own_layer = False
    observes = True

    def __init__(
        self,
        *,
        keep: float | None,
        equivalent: float | None,
        default: float,
        positions: str,
        scope: str = "per_row",
    ) -> None:
        if keep is not None and equivalent is not None:
            raise UserError(
                f"keep is {keep} and equivalent is {equivalent}, two budgets of one reducer.\nGive one of them."
            )
        self.equivalent = None if equivalent is None else check_share("equivalent", equivalent)
        self.keep = check_share("keep", default if keep is None else keep)
        self.positions = check_choice("positions", positions, POSITIONS)
        self.scope = check_choice("scope", scope, SCOPES)

    @abstractmethod
    def stages(self, num_layers: int) -> tuple[int, ...]:
        """Return the layers at whose input it cuts, in order.

        Raises:
            UserError: If the language model has no such layer.
        """

    @abstractmethod
    def counts(self, num_visual: int, num_layers: int) -> tuple[int, ...]:
        """Return how many of `num_visual` tokens are left after each stage, merged ones counted.

        Raises:
            UserError: If the budget is out of reach with these stages.
        """

    def observe(self, row: Row, query: Tensor, key: Tensor, scaling: float) -> Tensor | None:
        """Return what `select` has to know of a layer's attention, such as a score of each token `[length]`.

        Args:
            row: Its hidden states are what the observed layer was given.
            query: `[heads, length, head width]`.
            key: `[key heads, past + length, head width]`.
            scaling: Factor of the logits.
        """
        return None

    @abstractmethod
    def select(self, row: Row, observed: Tensor | None) -> Selection:
        """Return what is left of a sample that has visual tokens."""

    def check(self, num_layers: int) -> None:
        """Check that stages and budget fit a language model.

        Raises:
            UserError: If they do not.
        """
        self.counts(1000, num_layers)

    def equivalent_of(self, num_visual: int, num_layers: int) -> float:
        """Return the mean number of visual tokens over the inputs of all layers, for `num_visual` at the first."""
        stages = (0, *self.stages(num_layers), num_layers)
        counts = (num_visual, *self.counts(num_visual, num_layers))
        return (
            sum(count * (end - start) for count, (start, end) in zip(counts, pairwise(stages), strict=True))
            / num_layers
        )

    def best(self, row: Row, scores: Tensor) -> Tensor:
        """Return the places of the visual tokens with the highest scores, as many as this stage keeps, in order.

        Args:
            row: The sample.
            scores: `[length]`; of equal ones the lower place comes first.
        """
        places = row.places()
        groups = (
            [(places, sum(row.images))]
            if self.scope == "per_row"
            else [(places[row.image[places] == i], count) for i, count in enumerate(row.images)]
        )
        kept = []
        for group, count in groups:
            left = self.counts(count, row.num_layers)[row.stage]
            kept.append(group[scores[group].argsort(descending=True, stable=True)[:left]])
        return torch.cat(kept).sort().values
