"""MathVista's rules."""

import pytest

from fcot.evaluation.scoring.mathvista import concluded, extract, normalize, prefetched, rule_score

INTEGER = {"question_type": "free_form", "answer_type": "integer", "precision": None}
FLOAT = {"question_type": "free_form", "answer_type": "float", "precision": 1}
LIST = {"question_type": "free_form", "answer_type": "list", "precision": None}
CHOICE = {"question_type": "multi_choice", "answer_type": "text", "precision": None}
OPTIONS = {"A": "145°", "B": "35°", "C": "55°"}


@pytest.mark.parametrize("said", ["", " ", "\n"])
@pytest.mark.parametrize("fields", [INTEGER, FLOAT, LIST, CHOICE])
def test_silence_never_scores(said, fields):
    assert all(rule_score(said, fields, OPTIONS, gold) == 0 for gold in [*OPTIONS.values(), "0", "[]"])


def test_the_official_rule_takes_silence_for_the_shortest_option():
    assert normalize("", CHOICE, list(OPTIONS.values())) == "35°"
    assert normalize("", CHOICE, list(OPTIONS.values()), ignore_empty=True) is None


@pytest.mark.parametrize(
    ("said", "fields", "gold", "score"),
    [
        ("7", INTEGER, "7", 1),
        ("7.9", INTEGER, "7", 1),  # the official rule cuts decimals off
        ("It is 7 cm.", INTEGER, "7", 1),
        ("3 + 4 = 7.", INTEGER, "7", 1),
        ("from 10-12", INTEGER, "12", 1),
        ("it is -7 degrees", INTEGER, "-7", 1),
        ("x=-7", INTEGER, "-7", 1),
        ("1,204 apples", INTEGER, "1204", 1),
        ("seven", INTEGER, "7", None),
        ("about .64 m", FLOAT, "0.6", 1),
        ("0.66", FLOAT, "0.6", 0),
        ("[1, 2]", LIST, "[1, 2]", None),
        ("35°", CHOICE, "35°", 1),
        ("B", CHOICE, "35°", 1),
        ("B", CHOICE, "55°", 0),
        ("35° or 55°", CHOICE, "35°", None),
        ("Z", CHOICE, "35°", 0),
    ],
)
def test_rules_decide_what_they_can(said, fields, gold, score):
    assert rule_score(said, fields, OPTIONS if fields is CHOICE else {}, gold) == score


def test_the_official_script_extracts_only_whole_answers():
    assert [extract(said, INTEGER, None) for said in (" 7", "7.0", "7 cm", "")] == ["7", None, None, ""]
    assert extract("b", CHOICE, ["a", "b"]) == "b"
    assert extract('The answer is "7".', INTEGER, None, quick=True) == "7"


def test_internvl_takes_the_first_conclusion():
    assert concluded("so\nFinal answer: 7\nAnswer: 8", INTEGER, None) == "7"
    assert concluded("seven", INTEGER, None) == "seven"


@pytest.mark.parametrize(
    ("extraction", "option"), [("it is (b)", "35°"), ("C", "55°"), ("d", "35°"), ("135°", "145°"), ("(d)", "35°")]
)
def test_what_names_no_option_is_the_nearest_one(extraction, option):
    assert normalize(extraction, CHOICE, list(OPTIONS.values())) == option


@pytest.mark.parametrize("extraction", ["7 cm", "1,204", "", "inf", None, [1]])
def test_what_is_no_integer_has_no_normal_form(extraction):
    assert normalize(extraction, INTEGER, None) is None


def test_vlmevalkit_settles_a_wrong_letter_but_no_wrong_number():
    options = list(OPTIONS.values())
    assert prefetched("A", CHOICE, options, "35°") == ("A", False)
    assert prefetched("8", INTEGER, None, "7") == (None, False)
    assert prefetched("7", INTEGER, None, "7") == (7, True)
    assert prefetched("0", INTEGER, None, "0")[0] is None  # a zero goes to the judge
