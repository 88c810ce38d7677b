"""Score what can be made of the snapshots: every coalition's mean and every merge method's mixture."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fcot.errors import UserError
from fcot.merge.combine import Combination, coalition_weights
from fcot.merge.game import coalition_key, sampled_shapley, score_coalitions, shapley_values
from fcot.merge.methods import MergeMethod, merge_methods
from fcot.merge.report import Control
from fcot.merge.scores import ScoreBook

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Players:
    """The snapshots, and what is needed to score a mixture of them.

    Attributes:
        names: The snapshots' names, in training order.
        base: θ_base.
        checkpoints: θ_1 … θ_N.
        book: Scores mixtures and remembers the scores.
        progress: Called with a stage's name, how much of it is done, and how much there is at most.
    """

    names: list[str]
    base: Mapping[str, Tensor]
    checkpoints: Sequence[Mapping[str, Tensor]]
    book: ScoreBook
    progress: Progress

    def mix(self, weights: Sequence[float]) -> Combination:
        """Mix the snapshots with the given weights."""
        return Combination(self.base, self.checkpoints, weights)

    def scorer(self, stage: str, total: int) -> Callable[[Combination], float]:
        """Give a function that scores a mixture and tells of progress."""
        done = 0

        def score(mixture: Combination) -> float:
            nonlocal done
            utility = self.book(mixture)
            done += 1
            self.progress(stage, done, total)
            return utility

        return score


@dataclass(frozen=True)
class Game:
    """The coalitions' scores and the players' Shapley values, with standard errors if those were sampled."""

    utilities: dict[str, float]
    values: dict[str, float]
    standard_errors: dict[str, float] | None


def score_game(players: Players, permutations: int | None, seed: int) -> Game:
    """Score the coalitions and compute Shapley values.

    Args:
        players: The snapshots.
        permutations: How many orders to sample the values from; None for exact values from all coalitions.
        seed: Seed of the sampling.
    """
    names = players.names
    most = 2 ** len(names)
    if permutations is not None:
        most = min(most, 2 + len(names) + permutations * (len(names) - 1))
    score = players.scorer("coalitions", most)

    def utility(members: tuple[str, ...]) -> float:
        return score(players.mix(coalition_weights(members, names)))

    if permutations is None:
        utilities = score_coalitions(names, utility)
        return Game(utilities, shapley_values(utilities, names), None)
    scores = {coalition_key((name,)): utility((name,)) for name in names}  # the controls need each alone
    sampled = sampled_shapley(names, utility, permutations, seed, scores)
    return Game(scores, sampled.values, sampled.standard_errors)


def score_methods(players: Players, game: Game, draws: int, seed: int, scale: float) -> dict[str, Control]:
    """Run every merge method with the parameters it asks for, and score the weights it gives.

    Args:
        players: The snapshots.
        game: Their coalitions' scores and Shapley values.
        draws: Draws of the random search.
        seed: Seed of the draws.
        scale: The share of the task vectors that task arithmetic adds.

    Returns:
        Each method's result by its name, in the registry's order.

    Raises:
        UserError: If a method needs a parameter that is not offered.
    """
    methods = merge_methods()
    score = players.scorer("controls", len(methods))
    offered = {
        "values": list(game.values.values()),
        "single_utilities": [game.utilities[coalition_key((name,))] for name in players.names],
        "utility": players.scorer("random_search", draws),
        "draws": draws,
        "seed": seed,
        "scale": scale,
    }
    controls: dict[str, Control] = {}
    for name, method in methods.items():
        weights = method(players.base, players.checkpoints, **_asked_for(name, method, offered))
        utility = score(players.mix(weights))
        controls[name] = Control(utility, dict(zip(players.names, weights, strict=True)))
    return controls


def _asked_for(name: str, method: MergeMethod, offered: Mapping[str, Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(method).parameters.values())[2:]
    for parameter in parameters:
        if parameter.name not in offered and parameter.default is inspect.Parameter.empty:
            raise UserError(
                f"Merge method '{name}' needs '{parameter.name}', which the merge does not offer. "
                f"Give it a default, or ask for one of: {', '.join(offered)}."
            )
    return {parameter.name: offered[parameter.name] for parameter in parameters if parameter.name in offered}
