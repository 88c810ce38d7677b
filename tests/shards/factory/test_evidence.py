"""Rows that an answer rests on are those that were asked for."""

import pytest

from shards.factory.verifiers import VERIFIERS, Task, judge

PAGE = "Linnei: 16\nXinying: 74\nKocaali: 15\nGediz: 22"


def accepted(chain, question, answer, kind="number", options=()):
    return judge(chain, VERIFIERS[kind](), Task(answer, (), question, options)).accepted


@pytest.mark.parametrize(
    "chain",
    [
        f"{PAGE}\nXinying: 74\nAnswer: 74",
        f"{PAGE}\nAnswer: 74",  # read out once
        "Answer: 74",
        "The row of Xinying says 74.\nAnswer: 74",
    ],
)
def test_a_figure_of_the_asked_row_is_accepted(chain):
    assert accepted(chain, "Pop of Xinying?", "74")


@pytest.mark.parametrize(
    "rows",
    [
        "Yinying: 74",  # the name misread, the value as it should be
        "Matta: 74",  # another row, which happens to have the value
        "Xinying: 74\nXinying: 74",
    ],
)
def test_a_figure_of_another_row_is_no_evidence(rows):
    assert not accepted(f"{PAGE}\n{rows}\nAnswer: 74", "Pop of Xinying?", "74")


def test_both_rows_of_a_sum_are_read_out_alike():
    question = "Sum of Gediz and Kocaali?"
    assert accepted(f"{PAGE}\nGediz: 22\nKocaali: 15\n22+15=37\nAnswer: 37", question, "37")
    assert not accepted(f"{PAGE}\nGediz: 22\nKocalal: 15\n22+15=37\nAnswer: 37", question, "37")
    assert not accepted(f"{PAGE}\nGediz: 22\n22+15=37\nAnswer: 37", question, "37")


def test_a_comparison_rests_on_both_of_its_rows():
    rows, question = "Yaxing: 76\nPingshan: 113\nJiupu: 123", "Larger: Yaxing or Jiupu?"
    options = ("Yaxing", "Jiupu")
    assert accepted(f"{rows}\nYaxing: 76\nJiupu: 123\nAnswer: Jiupu", question, "Jiupu", "choice", options)
    assert not accepted(f"{rows}\nYaxing: 76\nAnswer: Jiupu", question, "Jiupu", "choice", options)
    assert not accepted(
        f"{rows}\nYaxing: 76\nPingshan: 113\nJiupu: 123\nAnswer: Jiupu", question, "Jiupu", "choice", options
    )


@pytest.mark.parametrize(
    ("lines", "right"),
    [
        ("6,3>\n7,2>\n0,1<\nJiupu>Yaxing", True),
        ("Yaxing < Jiupu", True),
        ("Pingshan > Yaxing", True),  # of another row, and true
        ("Jiupu > Meizhou", True),  # of a row that was not read out, which nobody can check
        ("6,3>\n7,2>\nYaxing>Jiupu", False),
        ("Jiupu < Yaxing", False),
    ],
)
def test_two_rows_are_put_in_the_order_of_their_figures(lines, right):
    rows = "Yaxing: 76\nPingshan: 113\nJiupu: 123\nYaxing: 76\nJiupu: 123"
    chain, question = f"{rows}\n{lines}\nAnswer: Jiupu", "Larger: Yaxing or Jiupu?"
    assert accepted(chain, question, "Jiupu", "choice", ("Yaxing", "Jiupu")) is right


@pytest.mark.parametrize(
    ("rows", "question"),
    [
        ("Q1 sales: 5\nQ2 sales: 7", "What were the Q2 sales?"),  # names that differ in figures
        ("North Island: 5\nSouth Island: 7", "Area of the South Island?"),  # and in words of meaning
        ("Austria: 5\nAustralia: 7", "Area of Australia?"),  # alike, with values of their own
        ("Revenues: 5\nCosts: 7", "How high were the Costs?"),
    ],
)
def test_names_that_are_alike_on_the_page_are_no_fault(rows, question):
    assert accepted(f"{rows}\nAnswer: 7", question, "7")
