"""Scores checked against published ones."""

import pytest

from fcot.evaluation.benchmarks.published import Published
from fcot.evaluation.results.check import check_published
from tests.evaluation.results.invented import answered, model

ANSWERS = ["1", "1", "0", "1", "1", "0", "1", "1"]  # 75, with an interval from 50 to 100 or less


def check(of, *published, name="Some-1B", scoring="internvl2"):
    (found,) = check_published(model("m", of).columns(scoring, allow_partial=True), name, published, scoring)
    return found


def score(value, split="test", scoring="internvl2", share=1.0, name="Some-1B"):
    return Published(name, "invented_set", split, value, "nobody", scoring, share)


@pytest.mark.parametrize(("value", "holds"), [(75.0, True), (60.0, True), (20.0, False), (100.1, False)])
def test_a_published_score_holds_within_the_interval(value, holds):
    found = check(answered(*ANSWERS), score(value))
    assert (found.holds, found.reason, found.published, found.value) == (holds, "", value, 75.0)


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ([], "no score of Some-1B is published"),
        ([score(75, name="Some-2B")], "Did you mean 'Some-2B'"),
        ([score(75, split="val")], "published for val, not for test"),
        ([score(75, scoring="")], "another rule or a judge; 0 of 8 rows"),
        ([score(75, share=0.5)], "Did you mean 'Some-1B 50%'"),
    ],
)
def test_what_cannot_be_compared_does_not_hold(published, said):
    found = check(answered(*ANSWERS), *published)
    assert not found.holds and said in found.line()


def test_a_row_of_a_table_is_named_with_its_share():
    both = [score(75, share=0.5), score(10, share=0.25)]
    assert check(answered(*ANSWERS), *both, name="Some-1B 50%").holds
    assert not check(answered(*ANSWERS), *both, name="Some-1B 25%").holds


def test_a_part_of_a_split_agrees_with_nothing():
    found = check(answered("1", "0", whole=False), score(75))
    assert not found.holds and "2 rows are not the whole split" in found.line()


def test_rows_without_a_score_leave_it_open_whether_one_holds():
    judged = check(answered(*ANSWERS, "?"), score(70))
    assert not judged.holds and "1 of 9 rows have no score" in judged.line()
    failed = check(answered("1", "1", "", failed=["", "", "cut short"]), score(66))
    assert not failed.holds and "1 of 3 rows have no score" in failed.line()
