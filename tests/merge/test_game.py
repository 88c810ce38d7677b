import math
import random
from itertools import permutations

import pytest

from fcot.merge import banzhaf_values, coalition_key, coalitions, sampled_shapley, score_coalitions, shapley_values

NAMES = ["s400", "s800", "s1200", "s1600", "s2000", "s2400"]


def random_game(players, seed):
    draw = random.Random(seed)
    return {coalition_key(members): draw.uniform(-3, 90) for members in coalitions(players)}


@pytest.mark.parametrize("count", range(1, 7))
def test_values_add_up_to_what_the_grand_coalition_gains_over_the_base(count):
    players = NAMES[:count]
    for seed in range(5):
        game = random_game(players, seed)
        gain = game[coalition_key(players)] - game[""]
        assert math.fsum(shapley_values(game, players).values()) == pytest.approx(gain, abs=1e-9)


@pytest.mark.parametrize("count", range(2, 7))
def test_players_that_add_the_same_to_every_coalition_get_the_same_value(count):
    players = NAMES[:count]
    game = random_game(players, 7)
    twins = dict(zip(players[:2], players[1::-1], strict=True))
    swapped = {coalition_key([twins.get(name, name) for name in members]): coalition_key(members)
               for members in coalitions(players)}  # fmt: skip
    symmetric = {key: (game[key] + game[swapped[key]]) / 2 for key in game}
    values = shapley_values(symmetric, players)
    assert values[players[0]] == pytest.approx(values[players[1]], abs=1e-12)


@pytest.mark.parametrize("count", range(1, 7))
def test_a_player_that_always_adds_its_own_score_gets_exactly_that(count):
    players = NAMES[:count]
    others = random_game(players[1:], 3)
    game = {}
    for members in coalitions(players):
        rest = coalition_key([name for name in members if name != players[0]])
        game[coalition_key(members)] = others[rest] + (0.25 if players[0] in members else 0.0)
    assert shapley_values(game, players)[players[0]] == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("count", range(1, 7))
def test_values_of_a_sum_of_games_are_the_sums_of_values(count):
    players = NAMES[:count]
    first, second = random_game(players, 1), random_game(players, 2)
    both = shapley_values({key: first[key] + second[key] for key in first}, players)
    apart = shapley_values(first, players), shapley_values(second, players)
    assert both == pytest.approx({name: apart[0][name] + apart[1][name] for name in players}, abs=1e-10)


def test_values_are_mean_marginal_contributions_over_all_orders():
    players = NAMES[:4]
    game = random_game(players, 11)
    gains = {name: [] for name in players}
    for order in permutations(players):
        for place, name in enumerate(order):
            gains[name].append(game[coalition_key(order[: place + 1])] - game[coalition_key(order[:place])])
    by_hand = {name: math.fsum(gain) / len(gain) for name, gain in gains.items()}
    assert shapley_values(game, players) == pytest.approx(by_hand, abs=1e-10)


def test_a_shift_of_the_base_score_moves_every_value_by_the_same_amount():
    players = NAMES[:5]
    game = random_game(players, 5)
    before, after = shapley_values(game, players), shapley_values({**game, "": game[""] + 1.0}, players)
    assert all(after[name] - before[name] == pytest.approx(-0.2, abs=1e-12) for name in players)


def test_coalitions_may_be_given_as_frozensets():
    game = {frozenset(): 0.0, frozenset({"a"}): 1.0, frozenset({"b"}): 2.0, frozenset({"b", "a"}): 4.0}
    assert shapley_values(game, ["a", "b"]) == {"a": 1.5, "b": 2.5}


def test_keys_do_not_depend_on_the_order_of_members():
    assert coalition_key(["b", "a"]) == coalition_key(("a", "b")) == "a+b"
    assert coalition_key([]) == ""


def test_each_coalition_is_scored_once_and_known_scores_are_not_scored_again():
    asked = []

    def utility(members):
        asked.append(members)
        return float(len(members))

    known = {"": 0.0, "a": 1.0}
    scores = score_coalitions(["b", "a"], utility, known)
    assert scores == {"": 0.0, "b": 1.0, "a": 1.0, "a+b": 2.0}
    assert asked == [("b",), ("b", "a")]
    assert known == scores


def test_a_missing_coalition_is_named():
    with pytest.raises(ValueError, match=r"Coalition 'a\+b' has no score"):
        shapley_values({"": 0.0, "a": 1.0, "b": 1.0}, ["a", "b"])


def test_too_many_players_for_exact_values_are_refused_before_any_scoring():
    def utility(members):
        raise AssertionError("scored")

    with pytest.raises(ValueError, match=r"512 coalitions, .*\n.*or give `permutations`"):
        score_coalitions([f"s{step}" for step in range(9)], utility)


def weak_game(members):
    """Diminishing returns, so that the order of a permutation matters."""
    return math.sqrt(sum(1.0 + int(name[1:]) for name in members))


def test_sampled_values_agree_with_the_exact_ones_within_their_intervals():
    players = [f"s{number}" for number in range(8)]
    exact = shapley_values(score_coalitions(players, weak_game), players)
    sampled = sampled_shapley(players, weak_game, permutations=200, seed=0)
    assert all(0 < error < 0.1 for error in sampled.standard_errors.values())
    inside = [sampled.interval(name, 0.99)[0] <= exact[name] <= sampled.interval(name, 0.99)[1] for name in players]
    assert all(inside)


def test_standard_errors_shrink_with_the_root_of_the_number_of_permutations():
    players = [f"s{number}" for number in range(8)]
    few = sampled_shapley(players, weak_game, permutations=50, seed=1).standard_errors
    many = sampled_shapley(players, weak_game, permutations=800, seed=1).standard_errors
    assert sum(few.values()) / sum(many.values()) == pytest.approx(4.0, rel=0.25)


def test_sampling_handles_twelve_players_scores_each_coalition_once_and_still_adds_up():
    players = [f"s{number}" for number in range(12)]
    asked = []

    def utility(members):
        asked.append(coalition_key(members))
        return weak_game(members)

    sampled = sampled_shapley(players, utility, permutations=10, seed=0)
    assert len(asked) == len(set(asked)) == len(sampled.utilities) <= 2 + 10 * 11
    assert math.fsum(sampled.values.values()) == pytest.approx(weak_game(players), abs=1e-9)


def test_sampling_depends_on_the_seed_alone():
    players = NAMES
    game = random_game(players, 9)
    first, again, other = (
        sampled_shapley(players, lambda members: game[coalition_key(members)], 5, seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first.values != other.values


def test_one_permutation_is_refused_for_it_has_no_error():
    with pytest.raises(ValueError, match="at least 2"):
        sampled_shapley(["a"], weak_game, permutations=1, seed=0)


def test_banzhaf_values_are_mean_gains_over_all_coalitions_of_the_others():
    players = NAMES[:4]
    game = random_game(players, 2)
    for name, value in banzhaf_values(game, players).items():
        others = [other for other in players if other != name]
        gains = [game[coalition_key([*members, name])] - game[coalition_key(members)] for members in coalitions(others)]
        assert len(gains) == 8 and value == pytest.approx(math.fsum(gains) / 8, abs=1e-10)
    assert banzhaf_values({"": 1.0, "a": 1.5}, ["a"]) == shapley_values({"": 1.0, "a": 1.5}, ["a"]) == {"a": 0.5}
