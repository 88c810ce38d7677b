"""How a request's tiles get their numbers of visual tokens: as asked for, or as the student's router chooses."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fcot.compress import Elastic
from fcot.errors import UserError
from fcot.internvl.pixels import denormalize
from fcot.route import InkRule, Router, SeenTiles, choose, within

AUTO = "auto"
LEARNED, RULE = "learned", "ink"  # kinds of routers
Asked: TypeAlias = int | str | Sequence[int | str] | None  # visual tokens of each tile, or of those of each page


class Routing:
    """Gives the tiles of requests their visual tokens; a request's depend on nothing but its own pages.

    Args:
        elastic: Compressor of an elastic student.
        settings: Its configuration's `router`; None for a student without one.
        router: The learned router, if it is at hand; a rule needs none.
    """

    def __init__(self, elastic: Elastic, settings: Mapping[str, Any] | None, router: Router | None = None) -> None:
        self.elastic, self.settings = elastic, settings or {}
        self.ratios = (1, *elastic.ratios)
        rule = self.settings.get("kind") == RULE
        self.router: Router | InkRule | None = InkRule(self.settings["rule"]) if rule else router

    @property
    def tokens(self) -> Tensor:
        """Visual tokens of a tile at each of the ratios, int64 `[ratios]`; made anew, as a student is built on meta."""
        return torch.tensor([self.elastic.count(ratio) for ratio in self.ratios])

    @property
    def learned(self) -> bool:
        """Whether choices need features of the vision tower."""
        return self.settings.get("kind") == LEARNED

    def chooses(self, visual_tokens: Asked, budget: int | None) -> bool:
        """Whether a router decides what such a request's tiles get."""
        each = [visual_tokens] if isinstance(visual_tokens, int | str | None) else visual_tokens
        return bool(self.settings) and (budget is not None or AUTO in each)

    def check(self, visual_tokens: Asked, budget: int | None) -> None:
        """Check what is asked for.

        Raises:
            UserError: If the student cannot give it, or both are given.
        """
        each = [visual_tokens] if isinstance(visual_tokens, int | str | None) else visual_tokens
        for one in each:
            self.elastic.check_asked(None if self.settings and one == AUTO else one, budget)
        if budget is not None and visual_tokens is not None:
            raise UserError("Both visual_tokens and budget are given.\nGive one of them.")

    def counts(self, requests: Sequence[SeenTiles], visual_tokens: Asked = None, budget: int | None = None) -> Tensor:
        """Return the visual tokens of each tile of some requests, int64 `[tiles]`.

        Args:
            requests: The tiles of each.
            visual_tokens: Of each tile: a number, or "auto" for what the router chooses; or one for each page of all
                requests; None for those of the student's own ratio.
            budget: Most visual tokens of each request, instead.

        Raises:
            UserError: If the student cannot give what is asked for, or the budget is too small.
        """
        self.check(visual_tokens, budget)
        pages = sum(len(request.pages) for request in requests)
        each = [visual_tokens] * pages if isinstance(visual_tokens, int | str | None) else [*visual_tokens]
        if len(each) != pages:
            raise UserError(
                f"visual_tokens has {len(each)} numbers for {pages} pages.\nGive one for each page, or one."
            )
        asked, found = iter(each), [torch.zeros(0, dtype=torch.int64)]
        for request in requests:
            if budget is None:
                found.append(self._asked(request, [next(asked) for _ in request.pages]))
            else:
                found.append(self._within(request, budget))
        return torch.cat(found)

    def _asked(self, request: SeenTiles, each: Sequence[int | str | None]) -> Tensor:
        """Return the visual tokens of each tile, as asked for each page."""
        default, pages = self.elastic.max_tokens, torch.tensor([*request.pages], dtype=torch.int64)
        numbers = [0 if one == AUTO else default if one is None else int(one) for one in each]
        asked = torch.tensor(numbers, dtype=torch.int64).repeat_interleave(pages)
        if AUTO not in each:
            return asked
        chosen = self.tokens[choose(self.costs(request), self.tokens, self.settings["price"])]
        return torch.where(asked > 0, asked, chosen)

    def _within(self, request: SeenTiles, budget: int) -> Tensor:
        tiles = len(request.pixels)
        if not self.settings:
            return torch.full((tiles,), self.elastic.count_within(budget, tiles))
        return self.tokens[within(self.costs(request), self.tokens, budget)]

    def costs(self, request: SeenTiles) -> Tensor:
        """Return what each tile of a request costs at each of the ratios `[tiles, ratios]`."""
        assert self.router is not None, "the learned router is in the model"
        return self.router.costs(request)


def pixels_of(pixel_values: Tensor, settings: Mapping[str, Any] | None) -> Tensor:
    """Return the uint8 tiles of normalised ones `[tiles, 3, S, S]`, given `image_mean` and `image_std`."""
    if not settings:  # nothing looks at them
        return pixel_values
    mean, std = (torch.tensor(settings[name], device=pixel_values.device) for name in ("image_mean", "image_std"))
    return denormalize(pixel_values.float(), mean, std)


def requests_of(pixels: Tensor, shown: Sequence[Sequence[int]], features: Tensor | None = None) -> list[SeenTiles]:
    """Return the tiles of each request.

    Args:
        pixels: Tiles of all `[tiles, 3, S, S]`.
        shown: Tiles of each page of each request.
        features: Of the vision tower `[tiles, N, C]`.
    """
    sizes = [sum(pages) for pages in shown]
    parts = pixels.split(sizes)
    looks = [None] * len(sizes) if features is None else features.split(sizes)
    return [SeenTiles(*each) for each in zip(parts, shown, looks, strict=True)]
