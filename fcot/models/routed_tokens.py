"""Visual tokens drawn in training as a router would choose them, so that a student learns what it will read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcot.compress import Elastic
from fcot.internvl.drawn_tokens import DRAWN, DrawnTokens
from fcot.models.routing import RULE, Routing
from fcot.route import SeenTiles, choose

FACTOR = 8  # a price is drawn between that of "auto" over this, and times this


class RoutedTokens(DrawnTokens):
    """Draws the visual tokens of some samples' tiles by the router's rule at a drawn price; others as `DrawnTokens`.

    Data workers have no model, so the rule chooses in the learned router's place.

    Args:
        shares: How likely each number of tokens is where the rule does not choose.
        otherwise: Visual tokens of a tile where nothing is drawn.
        elastic: Compressor of the student.
        settings: Its configuration's `router`.
        routed: Share of the samples for which the rule chooses.
    """

    def __init__(
        self,
        shares: Mapping[int, float],
        *,
        otherwise: int,
        elastic: Elastic,
        settings: Mapping[str, Any],
        routed: float,
    ) -> None:
        super().__init__(shares, by_tile=False, otherwise=otherwise)
        self.routing, self.routed = Routing(elastic, {**settings, "kind": RULE}), routed
        self.price = float(settings["rule_price"])

    def drawn(self, tiles: Tensor, seed: Sequence[int], pages: Sequence[int] = ()) -> Tensor:
        """Return the visual tokens drawn for each tile of a sample, int64 `[tiles]`.

        Args:
            tiles: Of the sample, `[tiles, 3, S, S]`.
            seed: Of the sample in this epoch.
            pages: Tiles of each of its pages.
        """
        rng = np.random.default_rng([*seed, DRAWN, 1])
        if rng.random() >= self.routed or not len(tiles):
            return super().drawn(tiles, seed, pages)
        price = self.price * FACTOR ** rng.uniform(-1, 1)
        costs = self.routing.costs(SeenTiles(tiles, pages or [len(tiles)]))
        return torch.as_tensor(self.routing.tokens[choose(costs, self.routing.tokens, price)])
