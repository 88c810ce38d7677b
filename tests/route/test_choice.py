"""Tiles get the ratios of least cost within a budget, and routers fit costs that only sums of them reveal."""

from itertools import product

import pytest
import torch

from fcot.bench.flops import counting
from fcot.errors import UserError
from fcot.route import InkRule, Router, SeenTiles, choose, ink, price_of, within
from fcot.route.fit import MixedPages, fit_router, fit_rule

TOKENS = torch.tensor([16, 8, 4])


def costs_of(tiles, seed=0):
    """Costs that grow with the ratio, by a factor of their own for each tile."""
    drawn = torch.Generator().manual_seed(seed)
    steps = torch.rand(tiles, 2, generator=drawn) * torch.rand(tiles, 1, generator=drawn)
    return torch.cat([torch.zeros(tiles, 1), steps.cumsum(1)], 1)


def test_a_free_token_is_taken_and_a_dear_one_is_not():
    costs = costs_of(5)
    assert choose(costs, TOKENS, 0.0).tolist() == [0] * 5
    assert choose(costs, TOKENS, 10.0).tolist() == [2] * 5
    assert choose(torch.zeros(2, 3), TOKENS, 1e-9).tolist() == [2, 2]  # tiles that cost nothing


@pytest.mark.parametrize("budget", [24, 30, 37, 48, 64, 95, 96, 200])
def test_a_budget_is_kept_and_used_almost_as_well_as_by_trying_everything(budget):
    costs = costs_of(6, budget)
    chosen = within(costs, TOKENS, budget)
    assert int(TOKENS[chosen].sum()) <= budget

    def cost(choice):
        return float(costs[torch.arange(6), torch.tensor(choice)].sum())

    best = min(cost(choice) for choice in product(range(3), repeat=6) if int(TOKENS[list(choice)].sum()) <= budget)
    assert cost(chosen.tolist()) <= best + 0.1 * float(costs.max())
    if budget >= 96:
        assert chosen.tolist() == [0] * 6


def test_a_budget_below_the_fewest_tokens_is_refused():
    with pytest.raises(UserError, match="budget is 23, and 6 tiles have at least 24"):
        within(costs_of(6), TOKENS, 23)
    assert within(torch.zeros(0, 3), TOKENS, 0).tolist() == []


def test_the_price_of_a_budget_is_the_lowest_that_keeps_it():
    costs = costs_of(40)
    price = price_of(costs, TOKENS, 320)
    assert 300 < int(TOKENS[choose(costs, TOKENS, price)].sum()) <= 320
    assert int(TOKENS[choose(costs, TOKENS, 0.999 * price)].sum()) > 320


def drawing(share):
    """A tile of which a share of the rows is black."""
    tile = torch.full((3, 20, 20), 255, dtype=torch.uint8)
    tile[:, : round(20 * share)] = 0
    return tile


def test_the_rule_is_a_number_for_each_kind_of_tile_and_ratio_times_ink():
    seen = SeenTiles(torch.stack([drawing(share) for share in (0.5, 0, 0.2, 0.1)]), [3, 1])
    assert ink(seen.pixels).tolist() == pytest.approx([0.5, 0, 0.2, 0.1])
    assert seen.thumbnail.tolist() == [False, False, True, False]  # a page of one tile has none
    expected = [[0, 1, 2], [0, 0, 0], [0, 0.02, 0.04], [0, 0.2, 0.4]]
    torch.testing.assert_close(InkRule([[2, 4], [0.1, 0.2]]).costs(seen), torch.tensor(expected))


@torch.no_grad()
def test_the_router_costs_less_than_a_hundredth_of_reading_a_tile():
    tower, width = 724e9, 4096  # of InternVL2; a tile's pass through the language model comes on top
    with torch.device("meta"), counting() as flops:
        router = Router(width, 2)
        router.log_costs(torch.empty(1, router.first.in_features))
    pooled = 10 * 256 * width  # mean, maximum and deviation
    assert flops() + pooled < 0.01 * tower
    assert sum(parameter.numel() for parameter in router.parameters()) < 5e6


def world(router, pages=120, passes=2):
    """Mixed passes over pages of 4 tiles whose costs are known: ink, and a feature that the rule does not see."""
    drawn = torch.Generator().manual_seed(1)
    shares = torch.randint(0, 5, (4 * pages,), generator=drawn) / 10
    features = torch.randn(4 * pages, 2, router.width, generator=drawn)
    seen = SeenTiles(torch.stack([drawing(share) for share in shares.tolist()]), [4] * pages, features)
    factor = torch.where(seen.thumbnail, 0.01, 1.0) * shares * (1.5 * features.mean(1)[:, 0]).exp()
    costs = factor[:, None] * torch.tensor([0.0, 1.0, 3.0])
    choices = torch.randint(0, 3, (passes, 4 * pages), generator=drawn)
    kl = costs.expand(passes, -1, -1).gather(2, choices[..., None])[..., 0].unflatten(1, (-1, 4)).sum(2)
    page = torch.arange(pages).repeat_interleave(4)
    return seen, costs, MixedPages(router.describe(seen), page, choices, kl)


def test_costs_of_tiles_are_found_from_sums_over_pages():
    torch.manual_seed(0)
    router = Router(4, 2, hidden=16)
    seen, costs, measured = world(router)
    rule = fit_rule(measured, 2)
    losses = fit_router(router, measured, epochs=60, lr=0.01)
    assert losses["after"] < 0.2 * losses["before"]
    (tile, small) = rule.each
    assert tile[1] / tile[0] == pytest.approx(3, rel=0.2) and small[0] < 0.1 * tile[0]

    def paid(found, budget=2000):
        choice = choose(found, TOKENS, price_of(found, TOKENS, budget))
        return float(costs.gather(1, choice[:, None]).sum())

    found = {"router": router.costs(seen), "rule": rule.costs(seen), "oracle": costs}
    assert found["router"][:, 0].tolist() == [0] * len(costs)
    assert paid(found["oracle"]) <= paid(found["router"]) < 0.8 * paid(found["rule"])


def test_fitting_again_gives_the_same_router_and_few_pages_are_refused():
    router = Router(4, 2, hidden=16)
    seen, _, measured = world(router, pages=20)
    fit_router(router, measured, epochs=3)
    first = router.costs(seen)
    fit_router(router, measured, epochs=3)
    assert torch.equal(router.costs(seen), first)
    *_, few = world(router, pages=9)
    with pytest.raises(UserError, match="9 pages to fit a router"):
        fit_router(router, few)
