"""`auto` keeps the last snapshot unless a candidate beats it on pages not used to find it."""

import json

import numpy as np
import pytest

from fcot.errors import UserError
from fcot.merge.choice import Choice, check_method, choose
from fcot.merge.report import Control

CONTROLS = {
    "final": Control(0.70, {"s1": 0.0, "s2": 1.0}),
    "best_single": Control(0.70, {"s1": 0.0, "s2": 1.0}),
    "average": Control(0.71, {"s1": 0.5, "s2": 0.5}),
    "random_search": Control(0.73, {"s1": 0.4, "s2": 0.6}),
}
TASKS = ("table", "text")
MIXTURES = {name: tuple(control.weights.values()) for name, control in CONTROLS.items()}


def pages(gain, noise, count=60, seed=0):
    """Reported scores of a candidate that is better by `gain` on average, and of the last snapshot."""
    rng = np.random.default_rng(seed)
    last = {task: rng.uniform(0.3, 0.6, count) for task in TASKS}
    better = {task: scores + gain + noise * rng.standard_normal(count) for task, scores in last.items()}
    asked = []

    def confirm(weights):
        asked.append(list(weights))
        return last if list(weights) == [0.0, 1.0] else better

    return confirm, asked


def test_a_candidate_that_is_better_on_other_pages_is_kept():
    confirm, asked = pages(gain=0.05, noise=0.02)
    choice = choose(CONTROLS, confirm, MIXTURES, seed=0)
    assert choice.method == choice.candidate == "random_search"
    assert choice.difference.low > 0 and choice.difference.n == 120
    assert choice.difference.mean == pytest.approx(0.05, abs=0.01)
    assert asked == [[0.4, 0.6], [0.0, 1.0]]  # the best candidate alone: each further one would be another chance
    assert "random_search is kept: it beats the last snapshot by +0.0" in choice.why


@pytest.mark.parametrize(("gain", "noise"), [(0.003, 0.1), (-0.03, 0.02), (0.0, 0.0)])
def test_one_that_is_not_surely_better_is_not_kept(gain, noise):
    choice = choose(CONTROLS, pages(gain, noise)[0], MIXTURES, seed=0)
    assert (choice.method, choice.candidate) == ("final", "random_search")
    assert choice.difference.low <= 0
    assert "the last snapshot is kept: on pages not used to find it, random_search scores " in choice.why
    written = json.loads(json.dumps(choice.to_dict()))
    assert written["difference"]["n"] == sum(map(len, written["pages"]["candidate"].values())) == 120
    gains = [np.subtract(*(written["pages"][which][task] for which in ("candidate", "final"))) for task in TASKS]
    assert written["difference"]["mean"] == pytest.approx(np.mean(gains))


def test_chance_alone_changes_the_last_snapshot_in_few_runs():
    kept = [choose(CONTROLS, pages(0.0, 0.1, seed=seed)[0], MIXTURES, seed=0).method for seed in range(200)]
    assert kept.count("random_search") <= 12  # 2.5 % are expected


def test_nothing_is_read_where_no_candidate_scores_above_the_last_snapshot():
    confirm, asked = pages(gain=0.05, noise=0.0)
    low = {name: Control(min(each.utility, 0.70), each.weights) for name, each in CONTROLS.items()}
    assert choose(low, confirm, MIXTURES, seed=0) == Choice(
        "final", "the last snapshot is kept: no candidate scores above it"
    )
    assert not asked


@pytest.mark.parametrize(("confirm", "why"), [(None, "nothing was given"), (lambda weights: {}, "no pages are left")])
def test_without_other_pages_the_last_snapshot_is_kept(confirm, why):
    choice = choose(CONTROLS, confirm, MIXTURES, seed=0)
    assert choice.method == "final" and why in choice.why


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("atuo", {}, r"There is no merge method 'atuo'\. Did you mean 'auto'"),
        ("average", {"scale": 1.0}, r"'average' has no option 'scale'"),
        ("auto", {"scale": 1.0}, r"Options {'scale': 1\.0} are given, and no merge method"),
    ],
)
def test_a_method_or_an_option_that_is_not_there_is_refused(method, options, says):
    check_method("task_arithmetic_sum", {"scale": 0.3})
    check_method("auto", {})
    with pytest.raises(UserError, match=says):
        check_method(method, options)
