"""Weights of tasks by the paper's rule and by excess over the teacher."""

import numpy as np
import pytest

from fcot.errors import UserError
from shards.feed.task_weights import FLOOR, balanced, excess_weights, loss_weights

EVEN = dict.fromkeys("abcd", 1000)


def drawn(means, *, samples=200, spread=0.05, seed=0):
    """Losses of the samples of each task, around their means."""
    rng = np.random.default_rng(seed)
    return {task: (mean + rng.normal(0, spread, samples)).tolist() for task, mean in means.items()}


def weights(student, teacher=0.2, **options):
    """Weights by excess where the teacher has the same loss in all tasks, or one for each."""
    base = dict.fromkeys(student, teacher) if isinstance(teacher, float) else teacher
    found = excess_weights(drawn(student), drawn(base, seed=1), **{"sizes": EVEN, **options})
    return {task: row.weight for task, row in found.items()}


def length(weights, sizes):
    return sum(sizes[task] * weight for task, weight in weights.items())


@pytest.mark.parametrize(
    ("losses", "generation", "expected"),
    [
        ({"a": 1.0, "b": 1.0, "c": 1.0}, [], {"a": 1.0, "b": 1.0, "c": 1.0}),
        ({"a": 0.8, "b": 1.0, "c": 1.2}, [], {"a": 0.8, "b": 1.0, "c": 1.2}),
        ({"a": 0.1, "b": 1.0, "c": 9.0}, [], {"a": 0.5, "b": 5 / 6, "c": 5 / 3}),
        ({"a": 0.1, "b": 1.0, "c": 9.0}, ["c"], {"a": 2 / 3, "b": 4 / 3, "c": 1.0}),
        ({"a": 0.0}, [], {"a": 1.0}),
        ({}, [], {}),
    ],
)
def test_by_loss_easy_tasks_are_read_less_and_hard_ones_more_unless_they_generate(losses, generation, expected):
    assert loss_weights(losses, EVEN, generation) == pytest.approx(expected)


def test_what_one_task_gains_the_others_pay_by_their_sizes():
    sizes = {"a": 100, "b": 5000, "c": 700}
    found = loss_weights({"a": 3.0, "b": 1.0, "c": 0.6}, sizes)
    assert length(found, sizes) == pytest.approx(5800)
    assert found["a"] > 1.9 and 0.95 < found["b"] < 1.1


def test_a_task_that_is_hard_for_the_teacher_too_is_not_read_more_often():
    hard_for_anybody = weights({"a": 2.2, "b": 0.4, "c": 0.4, "d": 0.4}, {"a": 2.0, "b": 0.2, "c": 0.2, "d": 0.2})
    assert hard_for_anybody == pytest.approx(dict.fromkeys("abcd", 1.0))
    for_the_student = weights({"a": 2.2, "b": 0.4, "c": 0.4, "d": 0.4})
    assert for_the_student["a"] == pytest.approx(1.6, abs=0.01)  # 2, before the epoch's length is kept
    assert for_the_student["b"] == for_the_student["c"] == for_the_student["d"]


def test_weights_follow_the_excess_within_bounds():
    found = weights({"a": 0.3, "b": 0.4, "c": 0.5, "d": 3.0})
    assert found["a"] == 0.5 < found["b"] < found["c"] < found["d"] < 2.0
    assert found["c"] / found["b"] == pytest.approx(1.5, rel=0.02)
    assert length(found, EVEN) == pytest.approx(4000)


def test_the_figures_are_those_of_the_samples():
    student, teacher = {"a": [0.5] * 40, "b": [1.0] * 40}, {"a": [0.3] * 40, "b": [1.0] * 40}
    found = excess_weights(student, teacher, EVEN)
    assert (found["a"].loss, found["a"].teacher_loss, found["a"].samples) == pytest.approx((0.5, 0.3, 40))
    assert found["a"].excess == pytest.approx(0.2)
    assert found["b"].excess == FLOOR
    assert found["a"].standard_error == pytest.approx(0.0, abs=1e-12)
    errors = excess_weights(drawn({"a": 1.0}, spread=0.5), drawn({"a": 0.2}, spread=0.5, seed=1), EVEN)["a"]
    assert errors.standard_error == pytest.approx((0.5 / 200) ** 0.5, rel=0.15)


def test_what_is_not_sure_leaves_the_weight_at_one():
    few = excess_weights(drawn({"a": 1.0}, samples=29) | drawn({"b": 0.4, "c": 0.5, "d": 0.6}),
                         drawn({"a": 0.2}, samples=29) | drawn({"b": 0.2, "c": 0.2, "d": 0.2}), EVEN)  # fmt: skip
    assert few["a"].weight == pytest.approx(few["c"].weight)  # c is the median
    assert few["b"].weight < few["c"].weight < few["d"].weight
    noisy = drawn({"a": 0.45}, spread=2.0) | drawn({"b": 0.3, "c": 0.4, "d": 0.6})
    found = excess_weights(noisy, drawn(dict.fromkeys("abcd", 0.2), seed=1), EVEN)
    assert found["a"].low < 1 < found["a"].high
    assert {"a": found["a"].weight} == pytest.approx({"a": 1.0}, abs=0.3)
    assert found["d"].weight / found["a"].weight > 1.2


def test_a_less_certain_excess_moves_a_weight_less():
    def gain(spread):
        student = {"a": [0.7 + spread, 0.7 - spread] * 100, **dict.fromkeys("bcd", [0.45] * 200)}
        found = excess_weights(student, dict.fromkeys("abcd", [0.1] * 200), EVEN)
        return found["a"].weight / found["b"].weight

    assert gain(0.0) == pytest.approx(0.6 / 0.35)
    error = 1.5 / 200**0.5  # of the mean, whose share in 0.6 shrinks the exponent
    assert gain(1.5) == pytest.approx((0.6 / 0.35) ** (1 / (1 + (error / 0.6) ** 2)), rel=2e-3)
    assert gain(1.5) < gain(0.0) - 0.02


def test_a_generation_task_is_never_read_more_often_and_no_task_is_left_out():
    found = weights({"a": 9.0, "b": 0.4, "c": 0.4, "d": 0.21}, generation_tasks=["a"])
    assert found["a"] == 1.0
    assert found["d"] >= 0.5
    assert length(found, EVEN) == pytest.approx(4000)


def test_the_seed_decides():
    student, teacher = drawn({"a": 0.5, "b": 0.9, "c": 0.4}), drawn({"a": 0.2, "b": 0.3, "c": 0.3}, seed=1)
    assert excess_weights(student, teacher, EVEN, seed=3) == excess_weights(student, teacher, EVEN, seed=3)
    assert excess_weights(student, teacher, EVEN, seed=3) != excess_weights(student, teacher, EVEN, seed=4)


@pytest.mark.parametrize(
    ("given", "sizes", "bounds", "expected"),
    [
        ({"a": 2.0, "b": 0.5}, {"a": 10, "b": 10}, {}, {"a": 1.6, "b": 0.4}),
        ({"a": 10.0, "b": 1.0, "c": 1.0}, {"a": 10, "b": 10, "c": 10}, {"most": 2.0}, {"a": 2.0, "b": 0.5, "c": 0.5}),
        ({"a": 0.1, "b": 1.0}, {"a": 10, "b": 10}, {"least": 0.5}, {"a": 0.5, "b": 1.5}),
        ({"a": 1.0, "b": 0.0}, {"a": 10, "b": 90}, {"most": 3.0}, {"a": 3.0, "b": 0.0}),  # the epoch gets shorter
        ({"a": 1.0, "b": 0.0}, {"a": 10, "b": 90}, {}, {"a": 10.0, "b": 0.0}),
        ({"a": 2.0, "gone": 7.0}, {"a": 10}, {}, {"a": 1.0, "gone": 7.0}),
    ],
)
def test_balanced_weights_keep_the_length_of_an_epoch_within_bounds(given, sizes, bounds, expected):
    assert balanced(given, sizes, **bounds) == pytest.approx(expected)


def test_weights_of_zero_alone_are_refused():
    with pytest.raises(UserError, match="tasks a, b have weight 0"):
        balanced({"a": 0.0, "b": 0.0}, {"a": 1, "b": 2})
