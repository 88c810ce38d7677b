"""Differences over seeds: nested bootstrap, and Holm's correction."""

import numpy as np
import pytest

from fcot.errors import UserError
from fcot.statistics import holm, paired_difference_over_seeds

TASKS = {"text": 40, "table": 60}


def made(rng, *, seeds=3, gain=0.0, of_seed=0.0, of_page=0.0, noise=0.1):
    """Scores of two ways to train: the first differs by a gain, by what its seed adds, and by what each page adds."""
    pages = {task: rng.normal(0, of_page, count) for task, count in TASKS.items()}
    a, b = [], []
    for _ in range(seeds):
        base = {task: rng.random(count) for task, count in TASKS.items()}
        luck = rng.normal(0, of_seed)
        b.append(base)
        a.append({task: base[task] + gain + luck + pages[task] + rng.normal(0, noise, TASKS[task]) for task in TASKS})
    return a, b


def covered(times=150, **options):
    """How often a 90 % interval holds the true gain."""
    rng, hits = np.random.default_rng(0), 0
    for seed in range(times):
        found = paired_difference_over_seeds(
            *made(rng, gain=0.2, **options), seed=seed, resamples=300, confidence=0.9
        ).mean
        hits += found.low <= 0.2 <= found.high
    return hits / times


def test_figures_are_means_of_paired_differences_over_tasks_and_seeds():
    a = [{"text": [1.0, 0.0], "table": [1.0] * 4}, {"text": [1.0, 1.0], "table": [0.0] * 4}]
    b = [{"text": [0.0, 0.0], "table": [0.0] * 4}, {"text": [0.0, 0.0], "table": [0.0] * 4}]
    found = paired_difference_over_seeds(a, b)
    assert found.by_seed == [0.75, 0.5]
    assert (found.mean.mean, found.mean.n) == (0.625, 6)
    assert {task: (each.mean, each.n) for task, each in found.by_task.items()} == {"text": (0.75, 2), "table": (0.5, 4)}
    assert found.mean.low < found.mean.mean < found.mean.high


@pytest.mark.parametrize(
    ("spread", "most"),
    [
        ({"noise": 0.5}, 1.0),  # counts twice, so the interval is wider than it need be
        ({"of_page": 0.5, "noise": 0.1, "seeds": 8}, 0.96),
        ({"of_seed": 0.2, "noise": 0.1, "seeds": 8}, 0.96),
    ],
)
def test_an_interval_holds_the_truth_as_often_as_it_says_whatever_varies(spread, most):
    # with seeds drawn alone, pages would be missed; with pages of their own for each seed, what is common to seeds
    assert 0.82 <= covered(**spread) <= most


def test_seeds_that_disagree_make_the_interval_wide_and_one_seed_knows_pages_alone():
    rng = np.random.default_rng(1)
    a, b = made(rng, seeds=3, of_seed=0.3, noise=0.01)
    three = paired_difference_over_seeds(a, b).mean
    one = paired_difference_over_seeds(a[:1], b[:1]).mean
    assert three.high - three.low > 0.2 > 20 * (one.high - one.low)


def test_p_values_are_small_where_there_is_a_difference_and_not_where_there_is_none():
    rng = np.random.default_rng(2)
    a, b = made(rng, noise=0.1)
    a = [{**each, "text": each["text"] - 0.2} for each in a]
    found = paired_difference_over_seeds(a, b)
    assert found.p_values["text"] < 0.001 < 0.05 < found.p_values["table"]
    same = paired_difference_over_seeds(b, b)
    assert same.p_values == {"text": 1.0, "table": 1.0}


def test_the_seed_decides():
    a, b = made(np.random.default_rng(3))
    assert paired_difference_over_seeds(a, b, seed=1) == paired_difference_over_seeds(a, b, seed=1)
    assert paired_difference_over_seeds(a, b, seed=1) != paired_difference_over_seeds(a, b, seed=2)


def test_seeds_tasks_and_pages_must_be_the_same():
    a, b = made(np.random.default_rng(4))
    with pytest.raises(UserError, match="3 seeds of one way and 2 of the other"):
        paired_difference_over_seeds(a, b[:2])
    with pytest.raises(UserError, match="'text' have 40 and 40 and 40 and 40 and 40 and 39 samples"):
        paired_difference_over_seeds(a, [*b[:2], {**b[2], "text": b[2]["text"][1:]}])


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    # multiplied by 4, 3, 2 and 1 from the smallest on; the last is raised to the one before it
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
