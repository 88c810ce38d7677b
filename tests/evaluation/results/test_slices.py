"""Slices of a set."""

import pytest

from fcot.evaluation.benchmarks import BENCHMARKS
from fcot.evaluation.results import tested
from fcot.evaluation.results.result import result_of
from fcot.evaluation.results.slices import columns_of, difficult_rows, slices_of
from fcot.evaluation.rows import Answer, Row
from tests.evaluation.results.invented import answered, model


def sliced(of, kind):
    return {each.name: each.ids for each in slices_of(of) if each.kind == kind}


def test_bounds_belong_to_the_lower_slice_and_the_shortest_reference_counts():
    references = [("x" * 4,), ("x" * 5, "x" * 99), ("x" * 10,), ("x" * 11,), ("x" * 30,), ("x" * 31,)]
    of = answered(*"111111", references=references)
    assert sliced(of, "answer") == {
        "1 to 4 characters": {"0"},
        "5 to 10": {"1", "2"},
        "11 to 30": {"3", "4"},
        "over 30": {"5"},
    }


def test_tiles_and_sizes_are_those_of_pages_that_could_be_read():
    of = answered(
        *["1"] * 6,
        "",
        tiles=[1, 2, 4, 7, 13, 14, 0],
        size=[(500, 500), (501, 500), (1000, 1000), (1001, 1000), (2000, 2000), (2001, 2000), (0, 0)],
        failed=[*[""] * 6, "cut short"],
    )
    assert sliced(of, "tiles") == {"1 tile": {"0"}, "2 to 4": {"1", "2"}, "5 to 7": {"3"}, "8 to 13": {"4"},
                                   "over 13": {"5"}}  # fmt: skip
    assert sliced(of, "page") == {"up to 0.25 megapixels": {"0"}, "up to 1": {"1", "2"}, "up to 4": {"3", "4"},
                                  "over 4": {"5"}}  # fmt: skip
    assert sliced(of, "answer") == {"1 to 4 characters": {*"0123456"}}


def test_difficult_rows_are_those_below_half_under_the_rule_that_counts():
    few = answered("0.5 0", "0.4 1", "?", "1 0")
    assert difficult_rows(few, "internvl2") == {"1", "2"}
    assert difficult_rows(few, "definition") == {"0", "2", "3"}


def test_a_slice_has_each_models_value_and_the_difference_in_pairs():
    first, second = answered("1", "0", "1", "0.5"), answered("1", "1", "0", "0")
    found = result_of([model("a", first), model("b", second)], [], scoring="internvl2", protocol="internvl2",
                      difficult={"invented_set-test": {"1", "2", "3"}})  # fmt: skip
    (hard,) = [each for each in found["slices"] if each["kind"] == "difficult"]
    assert (hard["n"], hard["models"]) == (3, {"a": 50.0, "b": pytest.approx(100 / 3)})
    pair = hard["pairs"]["b"]
    assert (round(pair["value"], 6), pair["n"]) == (round(100 / 3 - 50, 6), 3)


def test_models_that_share_no_row_of_a_slice_are_reported_without_a_difference():
    lengths = [("x" * 40,), ("x",), ("x",)]
    first = answered("-", "1", "0", references=lengths)
    second = answered("1", "1", "-", references=lengths)
    found = result_of([model("a", first), model("b", second)], [], scoring="internvl2", protocol="internvl2")
    (short,) = [each for each in found["slices"] if each["kind"] == "answer"]
    assert (short["name"], short["n"], short["models"]) == ("1 to 4 characters", 2, {"a": 50.0, "b": 100.0})
    assert short["pairs"]["b"]["n"] == 1
    (pair,) = found["pairs"]
    assert pair["columns"]["invented_set"]["unmatched"] == 2
    assert any("leaves out 2 rows" in note for note in found["notes"])


def test_every_column_of_a_set_is_sliced():
    kind = BENCHMARKS["mme"]()
    rows, answers = [], {}
    for number, category in enumerate(("OCR", "OCR", "code_reasoning", "code_reasoning")):
        key, gold = str(number), ("Yes", "No")[number % 2]
        rows.append(Row(key, (), "?", (gold,), group=category, fields={"picture": "p"}))
        answers[key] = Answer(key, "Yes", tiles=1)
    of = tested.TestedSet.of(kind, "test", True, rows, answers)
    found = columns_of(of, {"0", "1", "2"}, "internvl2")
    assert {name: column.value for name, column in found.items()} == {"mme_perception": 50.0, "mme_cognition": 200.0}
    result = result_of([model("a", of)], [], scoring="internvl2", protocol="internvl2")
    assert {each["column"] for each in result["slices"]} == {"mme_perception", "mme_cognition"}
