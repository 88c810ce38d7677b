"""OCRBench's rule."""

from fcot.metrics import METRICS
from fcot.metrics.contains import contains


def test_an_answer_may_say_more():
    assert contains("It says HARBOUR\nROAD.", ["harbour road"]) == 1
    assert contains("harbou", ["harbour"]) == 0
    assert METRICS["contains"].score("112", ["x", "12"]) == 1


def test_formulas_are_compared_with_case_and_without_spaces():
    assert contains("X ^ { 2 }", "X^{2}", formula=True) == 1
    assert contains("x^{2}", "X^{2}", formula=True) == 0
    assert contains("a b", "ab") == 0
