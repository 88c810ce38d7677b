"""Rules that give the tiles of a page their ratios, with a price or a share fixed on dev pages.

Shapes: T tiles of all pages, 3 ratios: 1, 2 and 4.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fcot.route import InkRule, SeenTiles, choose, ink, price_of

BY_PRICE = ("router", "rule", "ink", "jpeg", "oracle")
RANDOM_SEEDS = 3
JPEG_QUALITY = 75


@dataclass(frozen=True)
class Costs:
    """What rules say of the tiles of some pages.

    Attributes:
        by_rule: Cost of each tile at each ratio `[T, 3]`, by the rule's name.
        num_tiles: Tiles of each page.
    """

    by_rule: dict[str, Tensor]
    num_tiles: Sequence[int]


def simple_costs(seen: SeenTiles, rule: InkRule) -> dict[str, Tensor]:
    """Return costs that need no weights.

    Args:
        seen: Tiles.
        rule: The rule of four numbers; the ratio of its numbers of plain tiles serves the other rules, too.
    """
    profile = torch.tensor([0.0, *rule.each[0]]) / rule.each[0][0]
    dark = ink(seen.pixels) * (~seen.thumbnail)  # thumbnails cost nothing, and are compressed first
    size = torch.tensor([float(jpeg_bytes(tile)) for tile in seen.pixels])
    return {"rule": rule.costs(seen), "ink": dark[:, None] * profile, "jpeg": size[:, None] / 1000 * profile}


def jpeg_bytes(tile: Tensor) -> int:
    """Return how many bytes a uint8 tile `[3, S, S]` has as JPEG."""
    file = io.BytesIO()
    Image.fromarray(tile.permute(1, 2, 0).numpy()).save(file, "jpeg", quality=JPEG_QUALITY)
    return file.tell()


def choices(test: Costs, dev: Costs, tokens: Tensor, budget: float, seed: int) -> dict[str, Tensor]:
    """Return each rule's choices for test tiles at a mean number of tokens, int64 `[T]`, by name.

    Args:
        test: Costs of the test tiles.
        dev: Costs of the dev tiles, on which the price is fixed.
        tokens: Visual tokens of each ratio `[3]`.
        budget: Mean visual tokens of a tile.
        seed: Of random choices.
    """
    found = {}
    for name in BY_PRICE:
        price = price_of(dev.by_rule[name], tokens, budget * len(dev.by_rule[name]))
        found[name] = choose(test.by_rule[name], tokens, price)
    drawn = torch.Generator().manual_seed(seed)
    found["shuffled"] = torch.cat(
        [part[torch.randperm(len(part), generator=drawn)] for part in found["router"].split(list(test.num_tiles))]
    )
    most, least = float(tokens.max()), float(tokens.min())
    share = (budget - least) / (most - least)
    for number in range(RANDOM_SEEDS):
        drawn = torch.Generator().manual_seed(1000 * seed + number)
        whole = torch.rand(len(found["router"]), generator=drawn) < share
        found[f"random{number}"] = torch.where(whole, int(tokens.argmax()), int(tokens.argmin()))
    return found
