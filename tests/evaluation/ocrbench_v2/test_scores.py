"""OCRBench v2's types, rows without a prediction, and means."""

import pytest

from fcot.errors import UserError
from fcot.evaluation.ocrbench_v2 import KINDS, abilities, language_of, overall, score


def test_types_have_the_rows_of_the_benchmark():
    rows = {"en": 0, "ch": 0}
    for name, kind in KINDS.items():
        rows[language_of(name)] += kind.rows
    assert rows == {"en": 7400, "ch": 2600}
    assert len(KINDS) == 30


def test_an_unknown_type_is_refused():
    with pytest.raises(UserError, match="no type"):
        score("scene text cn", "", "x", ["x"])
    with pytest.raises(UserError, match="no type"):
        abilities([("scene text cn", 1.0)], "ch")


@pytest.mark.parametrize(
    ("kind", "answers", "rule", "stops"),
    [
        ("cognition VQA en", ["A"], "multiple choice", False),
        ("cognition VQA en", ["A"], None, True),
        ("cognition VQA cn", ["A"], "multiple choice", True),
        ("text counting en", ["1"], "regression", True),
        ("formula recognition en", ["x"], None, True),
        ("formula recognition cn", ["x"], None, False),
        ("full-page OCR en", ["x"], None, False),
        ("text translation cn", ["x"], None, True),
        ("handwritten answer extraction cn", ["x"], None, True),
        ("table parsing cn", ["x"], None, False),
        ("document parsing en", ["x"], None, False),
        ("key information extraction en", [{"a": ["b"]}], None, False),
        ("key information extraction en", [{"a": ["b", "c"]}], None, True),
        ("key information extraction cn", ["{'a': ['b', 'c']}"], None, True),
    ],
)
def test_a_row_without_a_prediction_has_0_and_says_where_the_official_script_stops(kind, answers, rule, stops):
    found = score(kind, "", None, answers, eval=rule)
    assert (found.score, found.ignored, bool(found.crashed)) == (0, False, stops)


def test_an_ability_is_the_mean_of_its_rows_and_a_language_of_its_abilities():
    rows = [("text recognition en", 1.0), ("text recognition en", 1.0), ("full-page OCR en", 0.1)]
    rows += [("table parsing en", -0.6), ("cognition VQA cn", 1.0)]
    means = abilities(rows, "en")
    assert means["text_recognition"] == (pytest.approx(0.7), 3)
    assert means["text_spotting"] == (None, 0)
    assert len(means) == 8
    assert overall(means) == pytest.approx((0.7 - 0.6) / 2)
    assert overall(abilities([], "ch")) is None
