import math
import time
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from fcot.statistics import (
    Interval,
    bootstrap_interval,
    bootstrap_interval_by_group,
    paired_difference,
    paired_ratio,
    paired_ratio_by_group,
    resampled_means,
)

RNG = np.random.default_rng(1234)
TEACHER = RNG.random(200)
STUDENT = TEACHER * 0.9 + 0.02 * RNG.standard_normal(200)


def test_mean_and_count_are_those_of_the_scores():
    interval = bootstrap_interval([0.0, 1.0, 1.0, 0.5])
    assert interval.mean == 0.625
    assert interval.n == 4
    assert 0.0 <= interval.low < interval.mean < interval.high <= 1.0


def test_agrees_with_the_normal_approximation():
    half_width = 1.96 * TEACHER.std() / math.sqrt(len(TEACHER))
    interval = bootstrap_interval(TEACHER, resamples=10_000)
    assert interval.low == pytest.approx(TEACHER.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(TEACHER.mean() + half_width, abs=0.1 * half_width)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(7)
    intervals = [
        bootstrap_interval(rng.random(100) < 0.7, seed=seed, resamples=300, confidence=0.8) for seed in range(200)
    ]
    covered = sum(interval.low <= 0.7 <= interval.high for interval in intervals)
    assert 0.7 < covered / 200 < 0.9


def test_the_seed_decides():
    assert bootstrap_interval(TEACHER, seed=3) == bootstrap_interval(TEACHER, seed=3)
    assert bootstrap_interval(TEACHER, seed=3) != bootstrap_interval(TEACHER, seed=4)


def test_more_confidence_is_wider():
    narrow, wide = (bootstrap_interval(TEACHER, confidence=share) for share in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_takes_lists_arrays_and_tensors():
    values = [0.0, 1.0, 0.5]
    assert bootstrap_interval(values) == bootstrap_interval(np.array(values, dtype=np.float32))
    assert bootstrap_interval(values) == bootstrap_interval(torch.tensor(values))


def test_one_sample_has_no_spread():
    assert bootstrap_interval([0.25]) == Interval(mean=0.25, low=0.25, high=0.25, n=1)


def test_an_interval_does_not_change():
    with pytest.raises(FrozenInstanceError):
        bootstrap_interval([1.0]).mean = 0.0


def test_five_hundred_samples_take_milliseconds():
    scores = RNG.random(500)
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        paired_ratio(scores, scores)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.25  # about 0.02 s on an idle core


def test_more_draws_than_fit_at_once_make_one_interval():
    scores = np.tile([0.0, 1.0], 20_000)  # 50 resamples are drawn in two pieces
    interval = bootstrap_interval(scores, resamples=50)
    assert interval.low == pytest.approx(0.5, abs=0.01)
    assert interval.high == pytest.approx(0.5, abs=0.01)


def test_difference_is_paired():
    interval = paired_difference(STUDENT, TEACHER)
    assert interval.mean == pytest.approx((STUDENT - TEACHER).mean())
    assert interval.high < 0  # each mean alone varies more than the difference:
    assert interval.high - interval.low < 0.2 * (bootstrap_interval(TEACHER).high - bootstrap_interval(TEACHER).low)


def test_a_model_does_not_differ_from_itself():
    assert paired_difference(TEACHER, TEACHER) == Interval(mean=0.0, low=0.0, high=0.0, n=200)
    assert paired_ratio(TEACHER, TEACHER) == Interval(mean=1.0, low=1.0, high=1.0, n=200)


def test_ratio_is_one_of_means_and_paired():
    interval = paired_ratio(STUDENT, TEACHER)
    assert interval.mean == pytest.approx(STUDENT.mean() / TEACHER.mean())
    assert interval.low < 0.9 < interval.high
    assert interval.high - interval.low < 0.02


def test_ratio_with_few_scored_samples_has_no_upper_end():
    interval = paired_ratio([1.0, 0.0, 1.0], [0.0, 0.0, 1.0])
    assert interval.mean == 2.0
    assert interval.high == math.inf


def test_ratio_to_nothing_is_refused():
    with pytest.raises(ValueError, match="mean of b is 0"):
        paired_ratio([1.0, 0.0], [0.0, 0.0])


def test_groups_weigh_the_same_whatever_their_size():
    interval = bootstrap_interval_by_group({"ocr": [1.0] * 90, "chart": [0.0] * 10})
    assert interval == Interval(mean=0.5, low=0.5, high=0.5, n=100)  # drawn within groups: no spread


def test_order_of_groups_does_not_matter():
    groups = {"ocr": TEACHER[:120], "chart": TEACHER[120:]}
    assert bootstrap_interval_by_group(groups) == bootstrap_interval_by_group(dict(reversed(groups.items())))


def test_independent_groups_narrow_the_interval():
    # Four groups of equal spread: the interval of their mean is half as wide.
    one = bootstrap_interval(TEACHER)
    four = bootstrap_interval_by_group({name: TEACHER for name in "abcd"})
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(0.5, abs=0.05)


def test_ratio_by_group_is_one_of_group_means():
    interval = paired_ratio_by_group({"ocr": [0.9] * 50, "chart": [0.2] * 5}, {"ocr": [1.0] * 50, "chart": [0.6] * 5})
    assert interval.mean == pytest.approx((0.9 + 0.2) / (1.0 + 0.6))
    assert interval.low == pytest.approx(interval.mean)
    assert interval.n == 55


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([]), "is empty"),
        (lambda: paired_difference([], []), "is empty"),
        (lambda: paired_ratio([], []), "is empty"),
        (lambda: bootstrap_interval_by_group({}), "no groups"),
        (lambda: bootstrap_interval_by_group({"ocr": [1.0], "chart": []}), "'chart' is empty"),
        (lambda: bootstrap_interval([1.0, math.nan]), "nan at sample 1"),
        (lambda: bootstrap_interval([[1.0], [0.0]]), r"shape \(2, 1\)"),
        (lambda: bootstrap_interval([1.0], resamples=0), "resamples is 0"),
        (lambda: bootstrap_interval([1.0], confidence=95), "confidence is 95"),
        (lambda: paired_difference([1.0, 0.0], [1.0]), "2 and 1 samples"),
        (lambda: paired_ratio([1.0], [1.0, 0.0]), "1 and 2 samples"),
        (lambda: paired_ratio_by_group({"ocr": [1.0]}, {"ocr": [1.0, 1.0]}), "'ocr' have 1 and 2 samples"),
        (lambda: paired_ratio_by_group({"ocr": [1.0]}, {"chart": [1.0]}), r"\['ocr'\].*\['chart'\]"),
    ],
)
def test_impossible_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_few_samples_a_group_vary_as_much_as_their_mean_does():
    """Drawn with as many samples as there are, 4 would seem to vary by 3/4 of it."""
    scores = {"a": [0.0, 0.2, 0.5, 1.0], "b": [0.3, 0.1, 0.0, 0.9]}
    (means,) = resampled_means([scores], resamples=40_000)
    assert means.var() == pytest.approx(sum(np.var(each, ddof=1) / 4 for each in scores.values()) / 4, rel=0.03)
