"""Shapley values of the merge game: what each snapshot adds to a coalition's mean (paper: model merging).

The players are the snapshots; v(S) is the score of the mean of S's members and v(∅) that of θ_base. The
values add up to v(N) - v(∅), so moving v(∅) moves every value by the same amount.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, fmean, stdev

from fcot.errors import UserError

MAX_EXACT_PLAYERS = 8

CoalitionUtility = Callable[[tuple[str, ...]], float]


def coalition_key(members: Collection[str]) -> str:
    """Return a coalition as text: its sorted members joined by "+"; "" has no member and is θ_base."""
    return "+".join(sorted(members))


def coalitions(players: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield all 2^N coalitions, smallest first, members in the players' order.

    Raises:
        UserError: If there are more than `MAX_EXACT_PLAYERS` players.
    """
    check_count(len(players), None)
    for size in range(len(players) + 1):
        yield from combinations(players, size)


def score_coalitions(
    players: Sequence[str],
    utility: CoalitionUtility,
    cache: MutableMapping[str, float] | None = None,
) -> dict[str, float]:
    """Score all 2^N coalitions, each once.

    Args:
        players: The players' names.
        utility: v(S), from the members in the players' order; higher is better.
        cache: Scores known so far by `coalition_key`; new ones are added as they are found.

    Returns:
        Every coalition's score by `coalition_key`, smallest coalitions first.

    Raises:
        UserError: If there are more than `MAX_EXACT_PLAYERS` players.
    """
    scores = cache if cache is not None else {}
    return {coalition_key(members): _score(members, utility, scores) for members in coalitions(players)}


def shapley_values(
    utilities: Mapping[str, float] | Mapping[frozenset[str], float], players: Sequence[str]
) -> dict[str, float]:
    """Compute exact Shapley values: φ_i = Σ_{S ∌ i} |S|! (N-|S|-1)! / N! · (v(S+i) - v(S)).

    Args:
        utilities: v of all 2^N coalitions, by `coalition_key` or by frozenset of names.
        players: The players' names.

    Returns:
        Each player's φ; they add up to v(N) - v(∅).

    Raises:
        UserError: If a coalition is missing, or there are more than `MAX_EXACT_PLAYERS` players.
    """
    count = len(players)
    return _mean_gains(utilities, players, lambda size: 1.0 / (count * math.comb(count - 1, size)))


def banzhaf_values(
    utilities: Mapping[str, float] | Mapping[frozenset[str], float], players: Sequence[str]
) -> dict[str, float]:
    """Compute exact Banzhaf values: what a player adds to a coalition of the others, averaged over all coalitions.

    Args:
        utilities: v of all 2^N coalitions, by `coalition_key` or by frozenset of names.
        players: The players' names.

    Returns:
        Each player's β; unlike Shapley values, they need not add up to v(N) - v(∅).

    Raises:
        UserError: If a coalition is missing, or there are more than `MAX_EXACT_PLAYERS` players.
    """
    return _mean_gains(utilities, players, lambda size: 0.5 ** (len(players) - 1))


def _mean_gains(
    utilities: Mapping[str, float] | Mapping[frozenset[str], float],
    players: Sequence[str],
    share: Callable[[int], float],
) -> dict[str, float]:
    """Return each player's gains v(S+i) - v(S), weighed by a share that depends on the size of S."""
    known = {key if isinstance(key, str) else coalition_key(key): v for key, v in utilities.items()}
    terms: dict[str, list[float]] = {player: [] for player in players}
    for members in coalitions(players):
        value = _look_up(known, members)
        for player in set(players).difference(members):
            terms[player].append(share(len(members)) * (_look_up(known, (*members, player)) - value))
    return {player: math.fsum(terms[player]) for player in players}


@dataclass(frozen=True)
class SampledShapley:
    """Shapley values estimated from random permutations.

    Attributes:
        values: Each player's estimated φ; they add up to v(N) - v(∅) exactly, as the true ones do.
        standard_errors: The standard error of each estimate, over permutations.
        utilities: The scores of the coalitions met, by `coalition_key`.
        permutations: How many permutations were drawn.
    """

    values: dict[str, float]
    standard_errors: dict[str, float]
    utilities: dict[str, float]
    permutations: int

    def interval(self, player: str, confidence: float = 0.95) -> tuple[float, float]:
        """Return the normal confidence interval of a player's φ."""
        reach = NormalDist().inv_cdf(0.5 + confidence / 2) * self.standard_errors[player]
        return self.values[player] - reach, self.values[player] + reach


def sampled_shapley(
    players: Sequence[str],
    utility: CoalitionUtility,
    permutations: int,
    seed: int,
    cache: MutableMapping[str, float] | None = None,
) -> SampledShapley:
    """Estimate Shapley values as mean marginal contributions over random orders of the players.

    Args:
        players: The players' names, any number of them.
        utility: v(S), from the members in the players' order; called once per coalition.
        permutations: How many orders to draw, at least 2; each costs at most N - 1 new evaluations.
        seed: Seed of the draws.
        cache: Scores known so far by `coalition_key`; new ones are added as they are found.

    Raises:
        UserError: If `permutations` is below 2, for then there is no standard error.
    """
    check_permutations(permutations)
    scores = cache if cache is not None else {}
    met: dict[str, float] = {}
    gains: dict[str, list[float]] = {player: [] for player in players}
    draw = random.Random(seed)
    for _ in range(permutations):
        order = list(players)
        draw.shuffle(order)
        before = met[""] = _score((), utility, scores)
        for size, player in enumerate(order, start=1):
            members = tuple(name for name in players if name in order[:size])
            after = met[coalition_key(members)] = _score(members, utility, scores)
            gains[player].append(after - before)
            before = after
    return SampledShapley(
        values={player: fmean(gains[player]) for player in players},
        standard_errors={player: stdev(gains[player]) / math.sqrt(permutations) for player in players},
        utilities=met,
        permutations=permutations,
    )


def check_count(players: int, permutations: int | None) -> None:
    """Check that Shapley values of this many players can be computed.

    Args:
        players: How many there are.
        permutations: How many orders to sample the values from; None for exact values.

    Raises:
        UserError: If there are too many players for exact values, or too few permutations for a standard error.
    """
    if permutations is not None:
        check_permutations(permutations)
    elif players > MAX_EXACT_PLAYERS:
        raise UserError(
            f"{players} snapshots have {2**players} coalitions, and exact Shapley values need the score of each.\n"
            f"Merge at most {MAX_EXACT_PLAYERS} snapshots, or give `permutations`, such as 20, to sample the values."
        )


def check_permutations(permutations: int) -> None:
    """Check a number of permutations to sample.

    Raises:
        UserError: If it is below 2, for then there is no standard error.
    """
    if permutations < 2:
        raise UserError(f"{permutations} permutations give no standard error. Draw at least 2; 20 is a good start.")


def _score(members: tuple[str, ...], utility: CoalitionUtility, scores: MutableMapping[str, float]) -> float:
    key = coalition_key(members)
    if key not in scores:
        scores[key] = float(utility(members))
    return scores[key]


def _look_up(known: Mapping[str, float], members: Collection[str]) -> float:
    key = coalition_key(members)
    if key not in known:
        raise UserError(f"Coalition '{key}' has no score. Score all coalitions, or use sampled_shapley.")
    return float(known[key])
