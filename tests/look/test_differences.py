"""Differences are those of words, and hold both answers."""

import pytest

from fcot.look.differences import differences

CASES = {
    "a word": ("the city is Chanpatia", "the city is Chanpitia"),
    "a number": ("Total: 1,234.50 EUR", "Total: 1,284.50 EUR"),
    "Chinese": ("总额为三元", "总额为五元"),
    "nothing first": ("", "all of it"),
    "nothing second": ("all of it", ""),
    "lines": ("one\ntwo\nthree", "one\nthree\nfour"),
}


@pytest.mark.parametrize(("first", "second"), CASES.values(), ids=CASES)
def test_pieces_make_up_both_answers(first, second):
    pieces = differences(first, second)
    assert "".join(text for kind, text in pieces if kind != "lacking") == second
    assert "".join(text for kind, text in pieces if kind != "added") == first


def test_whole_words_numbers_and_chinese_signs_differ():
    assert differences(*CASES["a word"])[1:] == [("lacking", "Chanpatia"), ("added", "Chanpitia")]
    assert differences(*CASES["a number"])[1:3] == [("lacking", "1,234.50"), ("added", "1,284.50")]
    assert differences(*CASES["Chinese"])[1:3] == [("lacking", "三"), ("added", "五")]


def test_equal_answers_are_one_piece_and_hidden_characters_are_replaced():
    assert differences("a b\x1b[2J", "a b\x1b[2J") == [("same", "a b\N{REPLACEMENT CHARACTER}[2J")]
    (piece,) = differences("\N{RIGHT-TO-LEFT OVERRIDE}x", "\N{RIGHT-TO-LEFT OVERRIDE}x")
    assert piece == ("same", "\N{REPLACEMENT CHARACTER}x")
