"""Budgets mean what they say: tokens that are left, and their mean over the inputs of all layers."""

from __future__ import annotations

import pytest

from fcot.errors import UserError
from fcot.reduce import REDUCERS, Dart, Fastv, FastvRandom, InsideReducer, Pyramiddrop, Sparsevlm

METHODS = tuple(name for name, kind in REDUCERS.items() if issubclass(kind, InsideReducer))


@pytest.mark.parametrize("kind", [Fastv, FastvRandom, Dart])
@pytest.mark.parametrize(
    ("layers", "half", "quarter"),
    [(24, 0.5455, 0.8182), (28, 0.5385, 0.8077), (32, 0.5333, 0.8), (40, 0.5263, 0.7895)],
)
def test_one_cut_drops_what_its_mean_over_layers_needs(kind, layers, half, quarter):
    for equivalent, dropped in ((0.5, half), (0.25, quarter)):
        reducer = kind(equivalent=equivalent)
        assert 1 - reducer.counts(10**6, layers)[0] / 10**6 == pytest.approx(dropped, abs=5e-5)
        assert reducer.equivalent_of(10**6, layers) / 10**6 == pytest.approx(equivalent, abs=1e-5)


def test_fastv_rounds_halves_to_even():
    assert [Fastv(keep=0.5).counts(count, 24)[0] for count in (1, 3, 5, 7)] == [1, 2, 2, 4]
    assert Fastv(keep=1 - 0.7).counts(15, 24) == (5,)  # 0.30000000000000004 of them
    assert Fastv(keep=0.3).counts(15, 24) == (4,)


def test_pyramiddrop_by_default_is_the_papers():
    assert Pyramiddrop().stages(32) == (8, 16, 24)
    assert Pyramiddrop().counts(576, 32) == (288, 144, 72)
    assert Pyramiddrop().equivalent_of(576, 32) == 270


def test_pyramiddrop_keeps_the_share_to_the_token():
    assert Pyramiddrop(keep=0.75, layers=[6, 12]).counts(256, 24)[-1] == 192  # the square of a root is a little less


def test_pyramiddrop_solves_its_factor():
    assert Pyramiddrop(equivalent=0.5).shares(24)[0] == pytest.approx(0.5437, abs=5e-5)
    assert 0.44 < Pyramiddrop(equivalent=0.25, layers=[2, 6, 12]).shares(24)[0] < 0.46


@pytest.mark.parametrize(
    ("counts", "equivalent"), [((300, 200, 110), 206.5), ((303, 110, 36), 145.4), ((66, 30, 17), 82.3)]
)
def test_sparsevlm_counts_what_it_merges(counts, equivalent):
    reducer = Sparsevlm(counts=counts)
    assert reducer.stages(32) == (3, 7, 16)
    assert reducer.equivalent_of(576, 32) == pytest.approx(equivalent, abs=0.06)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_visual", [256, 1024, 3328])
def test_budgets_are_met_and_not_exceeded(method, num_visual):
    slack = 4 / num_visual  # of counts that are whole
    for keep in (0.5, 0.25):
        left = REDUCERS[method](keep=keep).counts(num_visual, 24)[-1] / num_visual
        assert keep - slack <= left <= keep + slack
    equivalent = REDUCERS[method](equivalent=0.5).equivalent_of(num_visual, 24) / num_visual
    assert 0.5 - slack <= equivalent <= 0.5 + slack


@pytest.mark.parametrize("method", METHODS)
def test_a_mean_that_the_first_layers_alone_exceed_is_refused(method):
    reducer = REDUCERS[method](equivalent=0.05)
    with pytest.raises(UserError, match="out of reach"):
        reducer.check(24)


def test_what_merged_tokens_alone_exceed_is_refused():
    with pytest.raises(UserError, match="set recycle to False"):
        Sparsevlm(keep=0.001).check(24)
    Sparsevlm(keep=0.001, recycle=False).check(24)


@pytest.mark.parametrize("method", METHODS)
def test_one_visual_token_always_stays(method):
    reducer = REDUCERS[method](keep=0.1)
    assert all(count >= 1 for visual in (1, 2, 3) for count in reducer.counts(visual, 24))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", ["keep", "equivalent"])
def test_a_budget_of_all_drops_nothing(method, budget):
    reducer = REDUCERS[method](**{budget: 1.0})
    assert set(reducer.counts(3328, 24)) == {3328}
