"""Fit routers to mixed pages: the costs of a page's tiles shall sum to the page's KL.

Shapes: T tiles of all pages, P pages, K mixed passes over each page, F numbers that describe a tile.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcot.errors import UserError
from fcot.route.ink_rule import InkRule
from fcot.route.router import BLANK, Router

EPSILON = 1e-3  # a KL that counts as none
HELD_OUT = 5  # every fifth page says when to stop
EPOCHS, PAGES_A_STEP = 80, 64


@dataclass(frozen=True)
class MixedPages:
    """What mixed passes over pages have cost.

    Attributes:
        described: Each tile, as `Router.describe` has it `[T, F]`.
        page: Number of each tile's page, int64 `[T]`.
        choices: Choice of each tile in each pass, 0 for ratio 1, int64 `[K, T]`.
        kl: KL of each page in each pass to the page whose tiles all have ratio 1, `[K, P]`.
    """

    described: Tensor
    page: Tensor
    choices: Tensor
    kl: Tensor

    @property
    def thumbnail(self) -> Tensor:
        """Which tiles are thumbnails, int64 `[T]`."""
        return self.described[:, -3].long()

    @property
    def log_ink(self) -> Tensor:
        """Logarithm of each tile's ink, raised by that of a blank tile `[T]`."""
        return self.described[:, -1]


def sum_loss(log_costs: Tensor, pages: MixedPages, which: Tensor) -> Tensor:
    """Return the mean difference of logarithms, costs summed over tiles against KL, smooth at 0.

    Args:
        log_costs: Of each tile at each ratio above 1 `[T, ratios]`.
        pages: What was measured.
        which: Numbers of the pages that count.
    """
    each = functional.pad(log_costs.exp(), (1, 0))
    passes = each.expand(len(pages.choices), -1, -1).gather(2, pages.choices[..., None])[..., 0]
    sums = torch.zeros_like(pages.kl).index_add(1, pages.page, passes)
    return functional.smooth_l1_loss((sums + EPSILON).log()[:, which], (pages.kl + EPSILON).log()[:, which])


def fit_rule(pages: MixedPages, ratios: int, steps: int = 300) -> InkRule:
    """Return the rule whose numbers fit best.

    Args:
        pages: What was measured.
        ratios: Number of ratios above 1.
        steps: Steps of the descent.

    Raises:
        UserError: If there are too few pages.
    """
    every = _split(pages)[0]
    own = (pages.log_ink.exp() - BLANK).clamp_min(1e-9).log()
    numbers = nn.Parameter(torch.full((2, ratios), float((pages.kl.mean() + EPSILON).log())))
    optimizer = torch.optim.Adam([numbers], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        sum_loss(numbers[pages.thumbnail] + own[:, None], pages, every).backward()
        optimizer.step()
    return InkRule(numbers.detach().exp().tolist())


def fit_router(
    router: Router, pages: MixedPages, *, seed: int = 0, epochs: int = EPOCHS, lr: float = 1e-3
) -> dict[str, float]:
    """Fit a router, and leave it as it was when its loss on held-out pages was least.

    Args:
        router: Its weights and statistics are set.
        pages: What was measured.
        seed: Seed of the initial weights and of the order of pages.
        epochs: Passes over the pages.
        lr: Learning rate.

    Returns:
        The losses on the held-out pages, "before" the first step and "after".

    Raises:
        UserError: If there are too few pages.
    """
    learned, held = _split(pages)
    drawn = torch.Generator().manual_seed(seed)
    _start(router, pages, drawn)
    optimizer = torch.optim.AdamW(router.parameters(), lr=lr, weight_decay=0.1)
    of_page = _tiles_of(pages.page, pages.kl.shape[1])
    best, kept = _loss(router, pages, held), _copy(router)
    before = best
    for _ in range(epochs):
        order = learned[torch.randperm(len(learned), generator=drawn)]
        for some in order.split(PAGES_A_STEP):
            part = _taken(pages, some, of_page)
            optimizer.zero_grad()
            sum_loss(router.log_costs(part.described), part, torch.arange(len(some))).backward()
            optimizer.step()
        if (found := _loss(router, pages, held)) < best:
            best, kept = found, _copy(router)
    router.load_state_dict(kept)
    return {"before": before, "after": best}


def _split(pages: MixedPages) -> tuple[Tensor, Tensor]:
    """Return the numbers of pages that are learned from and of those held out."""
    number = pages.kl.shape[1]
    if number < 2 * HELD_OUT:
        raise UserError(f"There are {number} pages to fit a router to.\nGive at least {2 * HELD_OUT}.")
    every = torch.arange(number)
    return every[every % HELD_OUT > 0], every[every % HELD_OUT == 0]


def _start(router: Router, pages: MixedPages, drawn: torch.Generator) -> None:
    """Set statistics and initial weights; every tile first costs the same, the mean."""
    deviation, mean = torch.std_mean(pages.described, 0, correction=0)
    router.mean.copy_(mean)
    router.deviation.copy_(deviation.clamp_min(1e-3))
    compressed = int((pages.choices > 0).sum()) or 1
    with torch.no_grad():
        bound = router.first.in_features**-0.5
        router.first.weight.uniform_(-bound, bound, generator=drawn)
        router.first.bias.zero_()
        router.last.weight.zero_()
        router.last.bias.fill_(float((pages.kl.sum() / compressed + EPSILON).log()))


@torch.no_grad()
def _loss(router: Router, pages: MixedPages, which: Tensor) -> float:
    return float(sum_loss(router.log_costs(pages.described), pages, which))


def _copy(router: Router) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in router.state_dict().items()}


def _tiles_of(page: Tensor, number: int) -> list[Tensor]:
    """Return the numbers of each page's tiles, which are next to each other."""
    return list(torch.arange(len(page)).split(page.bincount(minlength=number).tolist()))


def _taken(pages: MixedPages, some: Tensor, of_page: list[Tensor]) -> MixedPages:
    """Return what was measured of some pages, numbered anew."""
    tiles = [of_page[page] for page in some.tolist()]
    index = torch.cat(tiles)
    numbers = torch.arange(len(tiles)).repeat_interleave(torch.tensor([len(each) for each in tiles]))
    return MixedPages(pages.described[index], numbers, pages.choices[:, index], pages.kl[:, some])
