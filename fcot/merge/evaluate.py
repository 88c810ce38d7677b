"""Score every coalition's mean and every merge method's mixture of the snapshots."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fcot.merge.checks import Checked
from fcot.merge.combine import Combination, coalition_weights
from fcot.merge.game import coalition_key, sampled_shapley, score_coalitions, shapley_values
from fcot.merge.methods import MERGE_METHODS, OFFERED
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
        progress: Called with a stage's name, the number of its steps done, and the most there can be.
    """

    names: list[str]
    base: Mapping[str, Tensor]
    checkpoints: Sequence[Mapping[str, Tensor]]
    book: ScoreBook
    progress: Progress

    def mix(self, weights: Sequence[float]) -> Combination:
        """Mix the snapshots with the given weights."""
        return Combination(self.base, self.checkpoints, weights)

    def scorer(self, stage: str, total: int) -> Callable[..., float]:
        """Return a function that scores a mixture and reports progress."""
        done = 0

        def score(mixture: Mapping[str, Tensor], made_by: str = "") -> float:
            nonlocal done
            utility = self.book(mixture, made_by)
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


def score_methods(
    players: Players, game: Game, draws: int, seed: int, options: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Control], dict[str, Mapping[str, Tensor]]]:
    """Run every merge method with the parameters it asks for, and score what it returns.

    A method that needs an option it was not given is left out.

    Args:
        players: The snapshots.
        game: Their coalitions' scores and Shapley values.
        draws: Draws of the random search.
        seed: Seed of the draws.
        options: The user's options of methods, by their names.

    Returns:
        Each method's result by its name, and the mixtures themselves, the simplest first.
    """
    methods = {name: method for name, method in MERGE_METHODS.items() if is_complete(name, options.get(name, {}))}
    score = players.scorer("controls", len(methods))
    offered = {
        "values": list(game.values.values()),
        "single_utilities": [game.utilities[coalition_key((name,))] for name in players.names],
        "utility": players.scorer("random_search", draws),
        "draws": draws,
        "seed": seed,
    }
    controls: dict[str, Control] = {}
    mixtures: dict[str, Mapping[str, Tensor]] = {}
    for name, method in methods.items():
        given = dict(options.get(name, {}))
        asked = {key: offered[key] for key in OFFERED if key in inspect.signature(method).parameters}
        made = method(players.base, players.checkpoints, **asked, **given)
        weights = None if isinstance(made, Mapping) else dict(zip(players.names, made, strict=True))
        mixtures[name] = Checked(made, players.base, name) if isinstance(made, Mapping) else players.mix(made)
        # what a method's tensors may depend on besides base and checkpoints
        depends = {key: value for key, value in asked.items() if key != "utility"}
        utility = score(mixtures[name], json.dumps([name, given, depends], sort_keys=True))
        controls[name] = Control(utility, weights)
    return controls, mixtures


def is_complete(name: str, given: Mapping[str, Any]) -> bool:
    """Return whether a method has a value for each of its options."""
    needed = (each.name for each in MERGE_METHODS.options(name).values() if each.default is inspect.Parameter.empty)
    return all(option in given for option in needed)
