"""Which samples share a pack: a pure function of their lengths.

A pack holds samples one after another without padding, so its cost is that of its tokens and tiles. Fixed bins of one
context length waste a sixth of it; packs of a few contexts, filled from many samples, next to nothing.
"""

from collections.abc import Sequence

import numpy as np

from fcot.errors import UserError


def pack(tokens: Sequence[int], token_budget: int, tiles: Sequence[int] = (), tile_budget: int = 0) -> list[list[int]]:
    """Put samples into few packs, each within a budget of tokens and one of tiles: the longest first, best fit.

    A sample that exceeds a budget by itself gets a pack to itself.

    Args:
        tokens: Tokens of each sample.
        token_budget: Most tokens of a pack.
        tiles: Tiles of each sample; may be left out if tiles have no budget.
        tile_budget: Most tiles of a pack; 0 for any number.

    Returns:
        Indices of the samples of each pack, in their order.

    Raises:
        UserError: If a budget is negative, or there is none of tokens.
    """
    if token_budget < 1 or tile_budget < 0:
        raise UserError(f"token_budget is {token_budget}, tile_budget {tile_budget}. Give at least 1 token.")
    weights = np.asarray(tiles if tile_budget else np.zeros(len(tokens)), dtype=np.int64)
    sizes = np.asarray(tokens, dtype=np.int64)
    packs: list[list[int]] = []
    free = np.zeros((len(sizes), 2), dtype=np.int64)  # of tokens and of tiles in each pack so far
    for sample in np.lexsort((weights, sizes))[::-1].tolist():
        left = free[: len(packs)] - (sizes[sample], weights[sample])
        fits = np.flatnonzero((left >= 0).all(1))
        if len(fits):
            chosen = int(fits[left[fits, 0].argmin()])
        else:
            chosen = len(packs)
            packs.append([])
            free[chosen] = token_budget, tile_budget
        packs[chosen].append(sample)
        free[chosen] -= sizes[sample], weights[sample]
    return [sorted(members) for members in packs]
