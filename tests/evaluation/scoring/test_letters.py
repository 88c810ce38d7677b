"""Rules that find an option's letter."""

import pytest

from fcot.evaluation.scoring.letters import find_letter, first_letter, letter_before_stop, letter_or_begins

CELLS = {"A": "cell", "B": "cell wall", "C": "nucleus", "D": "membrane"}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("\nC\n", "C"),
        ("Answer: C", "A"),  # the first character is an option's letter, whatever word it begins
        ("Because of C", "B"),
        ("the nucleus", "C"),
        ("the cell wall", "A"),  # the first option whose text is there, not the longest
        ("the Nucleus", "the Nucleus"),
        ("x. nucleo", "x"),
        ("(b) it", "b"),
        ("(B", "(B"),
        ("", ""),
    ],
)
def test_internvl_takes_the_first_letter_then_the_first_text(said, found):
    assert first_letter(said, CELLS) == found


@pytest.mark.parametrize(
    ("said", "in_2024", "in_2026"),
    [
        ("**B**", "B", "B"),
        ("b", None, None),
        ("B or C", None, None),
        ("Z", "Z", "Z"),
        ("Cannot determine the answer, so C", "Z", "Z"),
        ("It is C, as one sees", "C", "C"),
        ("It is C, as all may see", "C", None),  # 2026: among the last four words only
        ("The answer is C because A is small", None, "C"),
        ("the best answer is b", None, "B"),
        ("the answer is nucleus", "C", "C"),  # "answer is n…", and no letter
        ("the answer is cell", "A", "A"),  # not C, which "cell" begins with
        ("cell wall", None, None),  # holds "cell" too
        ("The NUCLEUS", "C", "C"),
        ("nucleus" + "." * 60, "C", None),  # 2026: longer than twice all options
    ],
)
def test_the_letter_finder_has_two_states(said, in_2024, in_2026):
    assert (find_letter(said, CELLS, year=2024), find_letter(said, CELLS, year=2026)) == (in_2024, in_2026)


def test_a_stated_letter_that_is_no_option_is_not_found():
    assert find_letter("the answer is d", {"A": "yes", "B": "no"}) is None


@pytest.mark.parametrize("wrap", ["{}", "({})", "[{}]", "{}.", "{}:", "\\boxed{{{}}}", "Answer: {}", "#{}!"])
@pytest.mark.parametrize("year", [2024, 2026])
def test_a_lone_letter_is_found_in_any_wrapping(wrap, year):
    assert all(find_letter(wrap.format(letter), CELLS, year=year) == letter for letter in CELLS)


def test_lmms_eval_takes_a_letter_before_a_full_stop():
    assert letter_before_stop("  B. cat") == "B"
    assert letter_before_stop("(B) cat") == "(B) cat"
    assert [letter_or_begins(said, "B") for said in ("b", "B. cat", "B", "(B)", "C. B.")] == [1, 1, 1, 0, 0]
