"""How sure Shapley values and weights are: both over redrawn pages, all coalitions sharing each redraw.

Shapes: N players, K = 2^N coalitions, R redraws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fcot.merge.game import coalition_key, coalitions, shapley_values
from fcot.merge.scores import PageScores
from fcot.statistics import Interval, interval_of, resampled_means

Intervals = dict[str, Interval]


def value_intervals(
    pages: Mapping[str, PageScores], players: Sequence[str], *, seed: int = 0, resamples: int = 2000
) -> tuple[Intervals, Intervals]:
    """Return the 95 % intervals of Shapley values and of the weights they give.

    Values are a linear map of the coalitions' scores, so a redraw of pages within tasks gives a value for each player;
    those of a redraw add up to what the grand coalition gains there, as the values themselves do.

    Args:
        pages: Scores of every coalition by task and in page order, by `coalition_key`.
        players: The players' names.
        seed: Seed of the redraws.
        resamples: How many.

    Returns:
        The intervals of φ and of w, by player; `n` counts the pages.
    """
    keys = [coalition_key(members) for members in coalitions(players)]
    redrawn = resampled_means([pages[key] for key in keys], seed=seed, resamples=resamples)
    scores = {key: np.mean([np.mean(each) for each in pages[key].values()]) for key in keys}
    found = np.array([*shapley_values(scores, players).values()])[:, None]
    values = value_matrix(players) @ redrawn
    n = sum(len(each) for each in pages[""].values())
    both = [(found, values), (weights_of(found), weights_of(values))]
    phi, weights = (
        {
            player: interval_of(float(mean[row, 0]), drawn[row], n, 0.95)
            for row, player in enumerate(players)
        }
        for mean, drawn in both
    )  # fmt: skip
    return phi, weights


def value_matrix(players: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the matrix that maps the coalitions' scores, in the order of `coalitions`, to Shapley values: `[N, K]`."""
    keys = [coalition_key(members) for members in coalitions(players)]
    columns = [shapley_values({other: float(other == key) for other in keys}, players) for key in keys]
    return np.array([[column[player] for column in columns] for player in players])


def weights_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the weights of Shapley values, as `methods.shapley` has them, for each column of `[N, R]`."""
    positive = np.maximum(values, 0.0)
    total = positive.sum(axis=0)
    return np.where(total > 0.0, positive / np.where(total > 0.0, total, 1.0), 1.0 / len(values))
