"""Which samples share a pack, and which process gets which packs: pure functions on lengths and costs.

A pack holds samples one after another without padding, so its cost is that of its tokens and tiles. Fixed bins of one
context length waste a sixth of it; packs of a few contexts, filled from many samples, next to nothing.
"""

from collections.abc import Sequence

import numpy as np

# TFLOP of a re-alignment step of InternVL2-2B; only their proportion matters
TILE, TOKEN = 0.724, 0.0034


def pack(tokens: Sequence[int], token_budget: int, tiles: Sequence[int] = (), tile_budget: int = 0) -> list[list[int]]:
    """Put samples into few packs, each within a budget of tokens and one of tiles: the longest first, best fit.

    A sample that alone is over a budget has a pack of its own.

    Args:
        tokens: Tokens of each sample.
        token_budget: Most tokens of a pack.
        tiles: Tiles of each sample; may be left out if tiles have no budget.
        tile_budget: Most tiles of a pack; 0 for any number.

    Returns:
        Indices of the samples of each pack, in their order.

    Raises:
        ValueError: If a budget is negative, or there is none of tokens.
    """
    if token_budget < 1 or tile_budget < 0:
        raise ValueError(f"token_budget is {token_budget}, tile_budget {tile_budget}. Give at least 1 token.")
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


def balance(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Give processes the same number of items and nearly the same cost: the costliest first, to who has least.

    Args:
        costs: Cost of each item; their number is a multiple of the processes'.
        ranks: Number of processes.

    Returns:
        Indices of the items of each process.

    Raises:
        ValueError: If the items cannot be dealt out evenly.
    """
    if ranks < 1 or len(costs) % ranks:
        raise ValueError(f"{len(costs)} items cannot be given evenly to {ranks} processes.")
    given: list[list[int]] = [[] for _ in range(ranks)]
    loads, each = np.zeros(ranks), len(costs) // ranks
    for item in np.argsort(-np.asarray(costs, dtype=float), kind="stable").tolist():
        rank = int(loads.argmin())
        given[rank].append(item)
        loads[rank] += costs[item]
        if len(given[rank]) == each:
            loads[rank] = np.inf  # has all it gets
    return given


def step_cost(tiles: int, teacher_tokens: int, student_tokens: int) -> float:
    """Return what a sample costs in a re-alignment step, in units that only compare.

    The teacher runs forward, students forward and backward to their inputs; the vision tower once for all.
    """
    return TILE * tiles + TOKEN * (teacher_tokens + 2 * student_tokens)


def filled(packs: Sequence[Sequence[int]], tokens: Sequence[int], token_budget: int) -> float:
    """Return which share of the packs' token budgets is used."""
    return sum(tokens[sample] for members in packs for sample in members) / (len(packs) * token_budget)


def balanced(given: Sequence[Sequence[int]], costs: Sequence[float]) -> float:
    """Return the mean over the largest cost of a process: which share of their time processes work."""
    loads = [sum(costs[item] for item in items) for items in given]
    return float(np.mean(loads) / max(loads))
