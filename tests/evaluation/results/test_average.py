"""Averages, and two models in pairs."""

import numpy as np
import pytest

from fcot.evaluation.benchmarks import Column
from fcot.evaluation.results.average import average, averaged, pair, pair_average


def column(name, *groups, scale=100.0, in_average=True):
    units = {f"g{at}": {str(number): score for number, score in enumerate(each)} for at, each in enumerate(groups)}
    return Column(name, name, units, scale, in_average)


def test_the_average_is_over_columns_that_all_models_have_and_that_count():
    one = {name: column(name, [1.0]) for name in "abc"} | {"mme": column("mme", [1.0], scale=2000, in_average=False)}
    other = {name: one[name] for name in ("c", "a", "mme")}
    assert averaged([one, other]) == ["a", "c"]
    assert averaged([one]) == ["a", "b", "c"]


def test_columns_weigh_the_same_whatever_their_groups_and_rows():
    columns = {"a": column("a", [1.0, 0.0, 0.0, 0.0]), "b": column("b", [1.0, 1.0], [0.0, 0.5, 1.0])}
    found = average(columns, ["a", "b"])
    assert found.mean == pytest.approx((25 + (100 + 50) / 2) / 2)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx((columns["a"].value + columns["b"].value) / 2)


def test_the_interval_of_an_average_is_as_wide_as_the_columns_errors_say():
    rng = np.random.default_rng(0)
    first, second = (rng.random(400) < 0.7).astype(float), (rng.random(900) < 0.4).astype(float)
    columns = {"a": column("a", first), "b": column("b", second[:300], second[300:])}
    found = average(columns, ["a", "b"])
    halves = (second[:300].var() / 300 + second[300:].var() / 600) / 4
    error = 100 * np.sqrt(first.var() / 400 + halves) / 2
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.06)


def test_two_models_are_compared_unit_by_unit():
    one, other = column("a", [1.0, 0.0, 1.0, 1.0]), column("a", [0.5, 0.0, 1.0, 0.5])
    found = pair(one, other)
    assert found.difference.mean == pytest.approx(25) and found.ratio.mean == pytest.approx(1.5)
    assert found.unmatched == 0 and found.difference.n == 4
    same = pair(one, one)  # paired: no doubt is left about equal answers
    assert (same.difference.low, same.difference.high, same.ratio.low) == (0, 0, 1)


def test_units_that_only_one_model_has_are_left_out_and_counted():
    one = Column("a", "a", {"g": {"0": 1.0, "1": 0.0, "2": 1.0}, "h": {"0": 1.0}})
    other = Column("a", "a", {"g": {"2": 0.0, "0": 1.0}, "k": {"0": 0.0}})
    found = pair(one, other)
    assert (found.difference.mean, found.difference.n, found.unmatched) == (50.0, 2, 3)


def test_models_without_a_common_unit_or_with_no_score_at_all_have_no_such_comparison():
    assert pair(Column("a", "a", {"g": {"0": 1.0}}), Column("a", "a", {"g": {"1": 1.0}})) is None
    found = pair(column("a", [1.0, 0.0]), column("a", [0.0, 0.0]))
    assert found.ratio is None and found.difference.mean == 50


def test_the_difference_of_averages_is_the_average_of_differences():
    one = {"a": column("a", [1.0, 0.0]), "b": column("b", [1.0], [0.5, 0.0])}
    other = {"a": column("a", [0.0, 0.0]), "b": column("b", [1.0], [0.5, 1.0])}
    found = pair_average(one, other, ["a", "b"])
    assert found.difference.mean == pytest.approx((50 + (0 - 50) / 2) / 2)
    assert found.ratio.mean == pytest.approx(((50 + 62.5) / 2) / ((0 + 87.5) / 2))
