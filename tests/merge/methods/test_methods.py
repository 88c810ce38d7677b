import inspect
import math
from collections.abc import Mapping

import pytest
import torch

from fcot.errors import UserError
from fcot.merge import (
    MERGE_METHODS,
    Combination,
    coalition_weights,
    score_coalitions,
    shapley_values,
)

PLAYERS = ["s1", "s2", "s3", "s4", "s5"]


def toy(seed):
    """Later snapshots lie nearer to the optimum; the score falls with the square of the distance."""
    generator = torch.Generator().manual_seed(seed)
    optimum = torch.randn(40, generator=generator)
    spread = torch.linspace(1.6, 0.4, len(PLAYERS))
    checkpoints = [{"x": optimum + width * torch.randn(40, generator=generator)} for width in spread]

    def utility(weights):
        return -float((weights["x"] - optimum).square().mean())

    return {"x": torch.zeros(40)}, checkpoints, utility


def offered(base, checkpoints, utility):
    singles = [utility(checkpoint) for checkpoint in checkpoints]
    return {
        "values": singles,
        "banzhaf_values": singles,
        "single_utilities": singles,
        "utility": utility,
        "draws": 8,
        "seed": 0,
        "scale": 0.5,
    }


def test_methods_are_listed_with_the_simplest_first_which_decides_between_equals():
    ours = ["final", "best_single", "average", "tail_average", "exponential_average", "task_arithmetic_mean"]
    ours += ["task_arithmetic_sum", "greedy_soup", "random_search", "shapley", "banzhaf", "ties", "dare"]
    assert [*MERGE_METHODS][: len(ours)] == ours


@pytest.mark.filterwarnings("ignore:all (Shapley|Banzhaf) values")
@pytest.mark.parametrize("name", MERGE_METHODS)
def test_every_method_gives_a_finite_weight_for_each_checkpoint_or_the_bases_tensors(name):
    base, checkpoints, utility = toy(0)
    method = MERGE_METHODS[name]
    asked = inspect.signature(method).parameters
    given = {key: value for key, value in offered(base, checkpoints, utility).items() if key in asked}
    weights = method(base, checkpoints, **given)
    assert inspect.getdoc(method)
    if isinstance(weights, Mapping):
        assert weights["x"].shape == base["x"].shape and weights["x"].isfinite().all()
        return
    assert len(weights) == len(checkpoints)
    assert all(isinstance(weight, float) and math.isfinite(weight) for weight in weights)


def test_a_mistyped_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no merge method 'task_arithmetic_men'. Did you mean 'task_arithmetic_mean'"):
        MERGE_METHODS["task_arithmetic_men"]
    with pytest.raises(ValueError, match=r"Did you mean 'ties'"):
        MERGE_METHODS["tie"]


def test_the_simple_methods_by_their_numbers():
    base, checkpoints = {}, [{}, {}, {}, {}]
    assert MERGE_METHODS["average"](base, checkpoints) == [0.25] * 4
    assert MERGE_METHODS["task_arithmetic_mean"](base, checkpoints, scale=0.5) == [0.125] * 4
    assert MERGE_METHODS["task_arithmetic_sum"](base, checkpoints, scale=0.5) == [0.5] * 4
    assert MERGE_METHODS["final"](base, checkpoints) == [0.0, 0.0, 0.0, 1.0]
    best = MERGE_METHODS["best_single"]
    assert best(base, checkpoints, single_utilities=[0.1, 0.9, 0.2, 0.3]) == [0.0, 1.0, 0.0, 0.0]
    assert best(base, checkpoints, single_utilities=[0.1, 0.9, 0.9, 0.3]) == [0.0, 0.0, 1.0, 0.0]


def test_shapley_drops_negative_values_and_shares_the_rest():
    shapley = MERGE_METHODS["shapley"]
    assert shapley({}, [{}] * 4, values=[-1.0, 3.0, 0.0, 1.0]) == [0.0, 0.75, 0.0, 0.25]


def test_shapley_without_a_positive_value_is_uniform_and_says_so():
    with pytest.warns(UserWarning, match="all Shapley values are zero or below: uniform weights"):
        assert MERGE_METHODS["shapley"]({}, [{}] * 4, values=[-1.0, -3.0, 0.0, -0.5]) == [0.25] * 4


def test_banzhaf_shares_its_own_values_and_says_when_none_is_positive():
    banzhaf = MERGE_METHODS["banzhaf"]
    assert banzhaf({}, [{}] * 3, banzhaf_values=[-1.0, 3.0, 1.0]) == [0.0, 0.75, 0.25]
    with pytest.warns(UserWarning, match="all Banzhaf values are zero or below: uniform weights"):
        assert banzhaf({}, [{}] * 2, banzhaf_values=[-1.0, 0.0]) == [0.5, 0.5]


def test_averages_of_the_end_of_a_run_by_their_numbers():
    tail, exponential = MERGE_METHODS["tail_average"], MERGE_METHODS["exponential_average"]
    assert tail({}, [{}] * 5, last=2) == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert tail({}, [{}] * 2, last=3) == [0.5, 0.5]
    assert exponential({}, [{}] * 3, decay=0.5) == [1 / 7, 2 / 7, 4 / 7]
    assert exponential({}, [{}] * 4, decay=1.0) == [0.25] * 4
    with pytest.raises(UserError, match="none to average"):
        tail({}, [{}] * 5, last=0)
    for decay in (0.0, 1.1, float("nan")):
        with pytest.raises(UserError, match="above 0 and at most 1"):
            exponential({}, [{}] * 5, decay=decay)


def test_a_moving_average_over_the_snapshots_is_what_exponential_average_weighs():
    checkpoints = toy(0)[1]
    weights = MERGE_METHODS["exponential_average"]({}, checkpoints, decay=0.7)
    moving, bias = torch.zeros(40), 0.0
    for checkpoint in checkpoints:
        moving, bias = 0.7 * moving + 0.3 * checkpoint["x"], 0.7 * bias + 0.3
    merged = Combination({"x": torch.zeros(40)}, checkpoints, weights)["x"]
    torch.testing.assert_close(merged, moving / bias)


def test_greedy_soup_keeps_what_does_not_lower_the_mean_and_tries_coalitions_alone():
    scores = {(1.0, 0.0, 0.0): 0.5, (0.0, 1.0, 0.0): 0.7, (0.0, 0.0, 1.0): 0.6,
              (0.0, 0.5, 0.5): 0.65, (0.5, 0.5, 0.0): 0.7}  # fmt: skip
    tried = []

    def utility(mixture):
        tried.append(mixture.weights)
        return scores[mixture.weights]

    soup = MERGE_METHODS["greedy_soup"]({}, [{}] * 3, single_utilities=[0.5, 0.7, 0.6], utility=utility)
    # the best alone, then the second, which lowers the mean, then the third, which leaves it as it is
    assert tried == [(0.0, 0.5, 0.5), (0.5, 0.5, 0.0)]
    assert soup == [0.5, 0.5, 0.0]
    single = MERGE_METHODS["greedy_soup"]({}, [{}], single_utilities=[0.1], utility=utility)
    assert single == [1.0]


@pytest.mark.parametrize(("name", "field"), [("shapley", "values"), ("best_single", "single_utilities")])
def test_another_number_of_values_than_of_checkpoints_is_refused(name, field):
    with pytest.raises(ValueError, match=r"for 3 checkpoints. Give one for each"):
        MERGE_METHODS[name]({}, [{}] * 3, **{field: [1.0, 2.0]})


def test_random_search_scores_as_often_as_asked_and_returns_its_best():
    base, checkpoints, utility = toy(0)
    seen = []

    def recorded(mixture):
        assert mixture.weights == pytest.approx(mixture.weights) and math.fsum(mixture.weights) == pytest.approx(1.0)
        assert min(mixture.weights) >= 0
        seen.append((utility(mixture), mixture.weights))
        return seen[-1][0]

    search = MERGE_METHODS["random_search"]
    weights = search(base, checkpoints, utility=recorded, draws=12, seed=3)
    assert len(seen) == 12
    assert tuple(weights) == max(seen)[1]
    assert weights == search(base, checkpoints, utility=utility, draws=12, seed=3)
    assert weights != search(base, checkpoints, utility=utility, draws=12, seed=4)
    with pytest.raises(ValueError, match="cannot make 0 draws"):
        search(base, checkpoints, utility=utility, draws=0)


def test_random_search_draws_uniformly_from_the_simplex():
    drawn = []
    MERGE_METHODS["random_search"](
        {}, [{}] * 4, utility=lambda mixture: drawn.append(mixture.weights) or 0.0, draws=4000, seed=0
    )
    weights = torch.tensor(drawn)
    # each of 4 weights of Dirichlet(1, 1, 1, 1) has mean 1/4 and variance 3/80
    assert torch.allclose(weights.mean(dim=0), torch.full((4,), 0.25), atol=0.01)
    assert torch.allclose(weights.var(dim=0), torch.full((4,), 3 / 80), atol=0.003)


@pytest.mark.filterwarnings("ignore:all Shapley values")
@pytest.mark.parametrize("seed", range(6))
def test_on_a_quadratic_the_game_of_means_beats_uniform_weights_and_the_game_of_sums_does_not(seed):
    base, checkpoints, utility = toy(seed)

    def score_of(member_weight):
        def play(members):
            weights = [member_weight(members) if player in members else 0.0 for player in PLAYERS]
            return utility(Combination(base, checkpoints, weights))

        values = shapley_values(score_coalitions(PLAYERS, play), PLAYERS)
        weights = MERGE_METHODS["shapley"](base, checkpoints, values=list(values.values()))
        return utility(Combination(base, checkpoints, weights))

    uniform = utility(Combination(base, checkpoints, coalition_weights(PLAYERS, PLAYERS)))
    assert score_of(lambda members: 1 / max(len(members), 1)) > uniform
    assert score_of(lambda members: 1.0) <= uniform
