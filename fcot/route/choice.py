"""Choose a ratio for each tile, given what it costs at each.

Costs of tiles add up to the page's, so a choice needs no search: each tile takes the ratio at which its cost plus the
price of its tokens is least. Shapes: T tiles, C choices of a tile.
"""

import torch
from torch import Tensor

from fcot.errors import UserError

HALVINGS = 60  # of the interval in which a price is looked for


def choose(costs: Tensor, tokens: Tensor, price: float) -> Tensor:
    """Return each tile's choice of least cost plus price, int64 `[T]`; the first of several equal ones.

    Args:
        costs: Of each tile at each choice `[T, C]`.
        tokens: Visual tokens of each choice `[C]`.
        price: Of a visual token, in units of the costs.
    """
    return (costs.double() + price * tokens.to(costs.device)).argmin(1)


def price_of(costs: Tensor, tokens: Tensor, budget: float) -> float:
    """Return the lowest price at which the chosen tokens of all tiles are within a budget.

    Args:
        costs: Of each tile at each choice `[T, C]`.
        tokens: Visual tokens of each choice `[C]`.
        budget: Most visual tokens of all tiles together.

    Raises:
        UserError: If the fewest tokens of all tiles are more.
    """
    if (least := len(costs) * int(tokens.min())) > budget:
        raise UserError(
            f"budget is {budget:g}, and {len(costs)} tiles have at least {least} visual tokens.\n"
            "Give a larger budget, or fewer tiles (max_patches, max_tiles)."
        )

    def fits(price: float) -> bool:
        return int(tokens[choose(costs, tokens, price).cpu()].sum()) <= budget

    if fits(0.0):
        return 0.0
    low, high = 0.0, 1e-6
    while not fits(high):
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def within(costs: Tensor, tokens: Tensor, budget: int) -> Tensor:
    """Return the choices of some tiles within a budget, int64 `[T]`.

    One price for all tiles leaves some of the budget unused; as long as another choice fits into the rest, the tile
    takes it that gains most by a token.

    Args:
        costs: Of each tile at each choice `[T, C]`.
        tokens: Visual tokens of each choice `[C]`.
        budget: Most visual tokens of all tiles together.

    Raises:
        UserError: If the fewest tokens of all tiles are more.
    """
    chosen = choose(costs, tokens, price_of(costs, tokens, budget)).cpu()
    costs, every = costs.double().cpu(), torch.arange(len(chosen))
    while len(chosen):
        more = tokens[None] - tokens[chosen][:, None]
        gain = (costs[every, chosen][:, None] - costs) / more
        room = budget - int(tokens[chosen].sum())
        gain = torch.where((more > 0) & (more <= room), gain, -torch.inf)
        best = int(gain.argmax())
        if gain.flatten()[best] <= 0:
            break
        chosen[best // len(tokens)] = best % len(tokens)
    return chosen
