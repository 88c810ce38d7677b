"""Key information of OCRBench v2."""

import pytest

from fcot.evaluation.ocrbench_v2 import score


def english(prediction, answer):
    return score("key information extraction en", "", prediction, [answer])


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ('{"a": "X Y", "b": "2"}', {"a": ["xy"], "b": ["2"]}, 1),
        ('{"a": "x", "extra": "1"}', {"a": ["x"]}, 1 / 2),
        ('{"A": "x"}', {"a": ["x"]}, 0),
        ('{"a": 48.20}', {"a": ["48.20"]}, 0),  # a number loses its zero
        ('{"a": null}', {"a": ["None"]}, 1),
        ("{'a': None}", {"a": [""]}, 0),
        ('```json\n{"a": "x"}\n```', {"a": ["x"]}, 1),
        ('Total: x, date = "y"', {"Total": ["x"], "date": ["y"]}, 1),
        ('[{"a": "x"}]', {"a": ["x"]}, 0),
        ("{1: 'x'}", {"1": ["x"]}, 0),
        ("{}", {}, 0),
        ('{"b": "y"}', {"a": [], "b": ["y"]}, 0),  # no value of a key is accepted, so no dictionary is
        ('{"a": "x"}', '{"a": "x"}', 1),  # a plain value of an answer that is text is one value
        ('{"a": "xy"}', {"a": "xy"}, 0),  # one in a dictionary is its letters
        ('{"a": "y"}', {"a": "xy"}, 1),
        ('{"a": "x"}', "no dictionary", 0),
    ],
)
def test_keys_of_both_sides_whose_values_agree(prediction, answer, expected):
    assert english(prediction, answer).score == pytest.approx(expected)


def test_accepted_values_of_many_keys_are_not_tried_in_all_combinations():
    answer = {str(key): "abcdefghij" for key in range(40)}
    assert english(str({key: "j" for key in answer}), answer).score == 1


def test_long_runs_of_blanks_take_no_longer_than_their_square():
    assert english("a" + " " * 3000 + "b", {"a": ["b"]}).score == 0


def test_a_key_that_is_a_list_stops_the_official_script():
    for kind in ("key information extraction en", "VQA with position en"):
        found = score(kind, "", "{['a']: 'x: y'}", ["y"] if "VQA" in kind else [{"a": ["y"]}], bbox=[0, 0, 1, 1])
        assert (found.score, bool(found.crashed)) == (0, True)


def test_chinese_answers_are_written_in_python():
    found = score(
        "key information extraction cn", "", '{"日期": "3月", "金额": "5"}', ["{'日期': '3月', '金额': ['5', '6']}"]
    )
    assert found.score == 1
