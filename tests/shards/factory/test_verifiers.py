"""Verifiers beyond their contract: writings of the same value, and what looks like it and is not."""

import pytest

from shards.factory.verifiers import VERIFIERS, Task, judge
from shards.factory.verifiers.chain import equations

OPTIONS = ("granite", "slate", "chalk")


def accepts(kind, truth, response, question="", options=()):
    return judge(response, VERIFIERS[kind](), Task(truth, (), question, options)).accepted


@pytest.mark.parametrize(
    ("kind", "truth", "response"),
    [
        ("number", "342", "Answer: three hundred and forty-two"),
        ("number", "1000", "Answer: 10³"),
        ("number", "3.5", "Answer: 3½"),
        ("number", "5 km", "Answer: 5 kilometres"),
        ("number", "3.33", "10 / 3 = 3.33\nAnswer: 3.33"),
        ("number", "15", "Answer: 15\n\nLet me know if you need more."),
        ("chart_number", "2015", "Answer: 2015"),
        ("chart_number", "100", "Answer: around 102"),
        ("choice", "B", "(B) slate"),
        ("yes_no", "No", "Answer: no, there is not"),
        ("date", "2024-03-15", "Answer: Fri, 15 Mar 2024"),
        ("date", "14:30", "Answer: 2:30 pm"),
        ("money", "€1.200,50", "Answer: €1200.50"),
        ("money", "$5", "Answer: 500 cents"),
        ("text", "Dr. Ann Lee", "Answer: Dr Ann Lee"),
        ("list", ["red", "blue"], "Answer: red; blue"),
        ("math", "a^2-b^2", "\\boxed{(a-b)(a+b)}"),
        ("chart2dict", '{"a": 1}', '{"A": 1}'),
        ("table2markdown", "| a | b |\n| --- | --- |\n| 1 | 2 |", "|a|b|\n|-|-|\n|1|2|\n\nDone."),
    ],
)
def test_another_writing_is_the_same(kind, truth, response):
    assert accepts(kind, truth, response, options=OPTIONS)


@pytest.mark.parametrize(
    ("kind", "truth", "response"),
    [
        ("number", "7", "Answer: 7th"),
        ("number", "7", "Answer: 7+"),
        ("number", "7", "Answer: 7, not 8"),
        ("number", "7", "Answer: 6 to 7"),
        ("number", "12 apples", "Answer: 12 pears"),
        ("number", "20 °C", "Answer: 20 °F"),
        ("number", "12", "We have 5 * 2 = 11.\nAnswer: 12"),
        ("number", "15", "Thus the result is sixteen.\nAnswer: 15"),
        ("number", "15", "Answer: 15\nActually it is 16."),
        ("chart_number", "2015", "Answer: 2014"),
        ("chart_number", "100", "Answer: 94.9"),
        ("choice", "B", "B) chalk"),
        ("choice", "B", "Answer: B, not C"),
        ("yes_no", "Yes", "Answer: yes, but no"),
        ("date", "2024-02-30", "Answer: 2024-02-30"),
        ("date", "2024-03-15", "Answer: before 15 March 2024"),
        ("money", "$5", "Answer: 5 cents"),
        ("money", "A$50", "Answer: US$50"),
        ("money", "($5)", "Answer: $5"),
        ("text", "the northern harbour of Velmora", "Answer: the southern harbour of Velmora"),
        ("text", "unapproved applications", "Answer: approved applications"),
        ("text", "A-17", "Answer: A-71"),
        ("list", ["red", "blue"], "Answer: red, not blue"),
        ("math", "x=2", "\\boxed{y=2}"),
        ("math", "\\{1,2\\}", "\\boxed{(1,2)}"),
        ("math", "\\frac{1}{2^{80}}", "\\boxed{\\frac{1}{2^{81}}}"),
        ("chart2dict", '{"a": 1}', '{"a": 1}; {"b": 2}'),
        ("table2markdown", "| a | b |\n| --- | --- |\n| 1 | 2 |", "| b | a |\n| --- | --- |\n| 2 | 1 |"),
    ],
)
def test_what_looks_alike_is_another(kind, truth, response):
    assert not accepts(kind, truth, response, options=OPTIONS)


def test_equations_are_read_with_products_first_and_quotients_to_their_digits():
    assert equations("2 + 3 * 4 = 14, 10 / 3 = 3.33, 10 / 4 = 2, 7 - 9 = -2") == [
        ([2, 3, 4], 14, True),
        ([10, 3], pytest.approx(3.33), True),
        ([10, 4], 2, True),  # 2.5 to no digit behind the point
        ([7, 9], -2, True),
    ]
    assert [true for *_, true in equations("2 + 2 = 5 and 3 × 3 = 9 and 1 / 0 = 1")] == [False, True, False]


@pytest.mark.parametrize(
    "hostile",
    [
        "9**9**9**9",
        "1e999999999",
        "(" * 5000,
        "\\boxed{" * 2000,
        "__import__('os')",
        "7" * 40_000,
        f"{'7' * 5000} + 1 = 2",
    ],
)
def test_hostile_responses_are_rejected_at_once(hostile):
    for kind in VERIFIERS:
        assert not judge(f"Answer: {hostile}", VERIFIERS[kind](), Task("5", options=OPTIONS)).accepted
