"""Short answers of OCRBench v2."""

import pytest

from fcot.evaluation.ocrbench_v2 import score

LONG = "five words are an answer"


def given(kind, prediction, answers, **rest):
    return score(kind, "", prediction, answers, **rest)


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("It is 112.", ["12"], 1),
        ("anything", [""], 1),
        ("BELL\ntower ", ["bell tower"], 1),
        ("7", [7], 1),
        ("bel", ["bell"], 0),  # a short answer is not measured by its distance
        (f"It says: {LONG}.", [LONG], 1 - 10 / 34),
        ("It says: four words, not five.", ["four words, not five"], 1),
        ("five words", [LONG], 0),  # below a half
        ("wrong", ["right", "wrong"], 1),
        ("wrong", [], 0),
    ],
)
def test_a_short_answer_is_contained_and_a_long_one_is_near(prediction, answers, expected):
    assert given("cognition VQA en", prediction, answers).score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "expected"), [("(B) 42.", 1), ("The answer is B", 0), ("b", 0), ("选B", 0), ("B", 1)]
)
def test_a_choice_is_all_letters_of_the_answer(prediction, expected):
    for answers in (["B"], "B"):
        assert given("math QA en", prediction, answers, eval="multiple choice").score == expected


def test_case_counts_where_the_row_says_so():
    assert given("diagram QA en", "bell", ["Bell"], eval="case sensitive").score == 0
    assert given("diagram QA en", "bell", ["Bell"]).score == 1


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("北 京 市", "北京市", 1),
        ("答：甲,乙,丙", "甲,乙,丙", 1),
        ("答：甲,乙,丙,丁", "甲,乙,丙,丁", 1 - 2 / 9),  # four parts: distance, without credit for containment
        ("答：甲，乙，丙，丁", "甲，乙，丙，丁", 1),  # full-width commas part nothing
    ],
)
def test_chinese_answers_drop_blanks_and_are_long_from_four_parts_on(prediction, answer, expected):
    assert given("cognition VQA cn", prediction, [answer]).score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "rule", "near", "long"),
    [("cognition VQA cn", None, "甲乙丙", "甲,乙,丙,丁"), ("math QA en", "case sensitive", "abc", LONG)],
)
def test_an_answer_that_is_no_list_has_the_official_branches_the_wrong_way_round(kind, rule, near, long):
    assert given(kind, near[:2], near, eval=rule).score == pytest.approx(2 / 3)
    assert given(kind, near[:2], [near], eval=rule).score == 0
    assert given(kind, long, long, eval=rule).score == 0
    assert given(kind, long, [long], eval=rule).score == 1


@pytest.mark.parametrize("kind", ["cognition VQA en", "reasoning VQA cn", "text counting en"])
def test_another_rule_in_the_row_stops_the_official_script(kind):
    found = given(kind, "3", ["3"], eval="without eval")
    assert found.score == 0
    assert "without eval" in found.crashed


@pytest.mark.parametrize(
    ("rule", "prediction", "answer", "expected"),
    [
        ("exact match", "13", "3", 1),
        ("exact match", "Two", "Two", 0),  # the answer is lower-cased, what is said is not
        ("exact match", "There are 2", 2, 1),
        ("regression", "about -9.7", "10", 0.9),
        ("regression", "1,200", "1", 1),
        ("regression", "٩", "10", 0.9),
        ("regression", "5", "10", 0),  # exactly a half
        ("regression", "20", "10", 0),
        ("regression", "0", "10", 0),
        ("regression", "none", "10", 0),
    ],
)
def test_counts(rule, prediction, answer, expected):
    assert given("text counting en", prediction, [answer], eval=rule).score == pytest.approx(expected)


@pytest.mark.parametrize(
    ("language", "prediction", "answer", "expected"),
    [
        ("en", "$ x ^ 2\n$", "x^2", 1),
        ("en", "x\t^2", "x^2", 0),
        ("en", "X^2", "x^2", 0),
        ("en", r"\text{ab}", "ab", 1),
        ("en", r"\text{a}b", "ab", 0),
        ("cn", r"\text{a}b", "ab", 1),
        ("cn", r"\text {a}b", "ab", 0),
        ("cn", r"x\text{a{b}}", "xa{b}", 0),
        ("cn", "NaN", "", 0),
    ],
)
def test_formulas_are_compared_without_blanks(language, prediction, answer, expected):
    assert given(f"formula recognition {language}", prediction, [answer]).score == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("ABD", "D", 1),
        ("A和C", "AC", 1),
        ("A; C", "AC", 1),
        ("A，C", "AC", 0),  # the Chinese comma joins nothing
        ("A,B、C", "ABC", 0),  # one joint for all
        ("CA", "AC", 0),
    ],
)
def test_handwritten_characters_are_joined_in_one_way(prediction, answer, expected):
    assert given("handwritten answer extraction cn", prediction, [answer]).score == expected
