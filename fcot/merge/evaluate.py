"""Score every coalition's mean and every merge method's mixture of the snapshots."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fcot.errors import UserError
from fcot.merge.checks import Checked
from fcot.merge.combine import Combination, coalition_weights
from fcot.merge.game import banzhaf_values, coalition_key, sampled_shapley, score_coalitions, shapley_values
from fcot.merge.methods import MERGE_METHODS, OFFERED
from fcot.merge.report import Control
from fcot.merge.scores import PageScores, ScoreBook

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
        """Return a function that scores a mixture, at most `total` of them, and reports progress."""
        done = 0

        def score(mixture: Mapping[str, Tensor], made_by: str = "") -> float:
            nonlocal done
            done += 1
            if done > total:
                raise UserError(
                    f"{stage} scores more than {total} mixtures, and no method may score more than there are "
                    "coalitions.\nScore fewer."
                )
            utility = self.book(mixture, made_by)
            self.progress(stage, done, total)
            return utility

        return score


@dataclass(frozen=True)
class Game:
    """The coalitions' scores and the players' values.

    Attributes:
        utilities: Each scored coalition's score, by `coalition_key`.
        values: Each player's Shapley value.
        standard_errors: Of those, if they were sampled.
        banzhaf: Each player's Banzhaf value, if every coalition was scored.
        pages: Each coalition's scores of pages by task, if the utility gives them.
    """

    utilities: dict[str, float]
    values: dict[str, float]
    standard_errors: dict[str, float] | None
    banzhaf: dict[str, float] | None
    pages: dict[str, PageScores]


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

    pages: dict[str, PageScores] = {}

    def utility(members: tuple[str, ...]) -> float:
        mixture = players.mix(coalition_weights(members, names))
        found = score(mixture)
        if (of_pages := players.book.pages(mixture)) is not None:
            pages[coalition_key(members)] = of_pages
        return found

    if permutations is None:
        utilities = score_coalitions(names, utility)
        return Game(utilities, shapley_values(utilities, names), None, banzhaf_values(utilities, names), pages)
    scores = {coalition_key((name,)): utility((name,)) for name in names}  # the controls need each alone
    sampled = sampled_shapley(names, utility, permutations, seed, scores)
    return Game(scores, sampled.values, sampled.standard_errors, None, pages)


def check_options(players: Players, seed: int, options: Mapping[str, Mapping[str, Any]]) -> None:
    """Run the methods that were given options and need no scores, which check the options' values.

    Raises:
        UserError: If a value is unusable.
    """
    for name, given in options.items():
        asked = _asked(name)
        if given and asked <= {"seed"}:
            MERGE_METHODS[name](players.base, players.checkpoints, **dict.fromkeys(asked, seed), **given)


def score_methods(
    players: Players, game: Game, draws: int, seed: int, options: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Control], dict[str, Mapping[str, Tensor]]]:
    """Run every merge method with the parameters it asks for, and score what it returns.

    A method that needs an option it was not given is left out, as is one that needs the score of every coalition where
    Shapley values were sampled. No method may score more mixtures than there are coalitions, or `draws`.

    Args:
        players: The snapshots.
        game: Their coalitions' scores and Shapley values.
        draws: Draws of the random search.
        seed: Seed of the draws.
        options: The user's options of methods, by their names.

    Returns:
        Each method's result by its name, and the mixtures themselves, the simplest first.
    """
    offered = {
        "values": list(game.values.values()),
        "single_utilities": [game.utilities[coalition_key((name,))] for name in players.names],
        "draws": draws,
        "seed": seed,
    }
    if game.banzhaf is not None:
        offered["banzhaf_values"] = list(game.banzhaf.values())
    methods = {
        name: method
        for name, method in MERGE_METHODS.items()
        if is_complete(name, options.get(name, {})) and _asked(name) <= {*offered, "utility"}
    }
    score = players.scorer("controls", len(methods))
    budget = max(draws, len(game.utilities))
    controls: dict[str, Control] = {}
    mixtures: dict[str, Mapping[str, Tensor]] = {}
    for name, method in methods.items():
        given = dict(options.get(name, {}))
        scorer = players.scorer(name, draws if name == "random_search" else budget)
        asked = {key: {**offered, "utility": scorer}[key] for key in OFFERED if key in _asked(name)}
        made = method(players.base, players.checkpoints, **asked, **given)
        weights = None if isinstance(made, Mapping) else dict(zip(players.names, made, strict=True))
        mixtures[name] = Checked(made, players.base, name) if isinstance(made, Mapping) else players.mix(made)
        # what a method's tensors may depend on besides base and checkpoints
        depends = {key: value for key, value in asked.items() if key != "utility"}
        made_by = json.dumps([name, given, depends], sort_keys=True)
        utility = score(mixtures[name], made_by)
        controls[name] = Control(utility, weights, players.book.pages(mixtures[name], made_by))
    return controls, mixtures


def is_complete(name: str, given: Mapping[str, Any]) -> bool:
    """Return whether a method has a value for each of its options."""
    needed = (each.name for each in MERGE_METHODS.options(name).values() if each.default is inspect.Parameter.empty)
    return all(option in given for option in needed)


def _asked(name: str) -> set[str]:
    """Return what a method asks for of what a merge offers."""
    return set(inspect.signature(MERGE_METHODS[name]).parameters) & set(OFFERED)
