"""Repetition, likeness, added facts, and conclusions that are made wrong."""

import pytest

from shards.factory.mutants import changed, mutants
from shards.factory.texts import added_facts, likeness, most_different, most_repeated_line, repetition
from shards.factory.verifiers import VERIFIERS, Task


def test_repetition_is_the_share_of_runs_of_four_words_that_were_there_before():
    assert repetition("one two three four five six") == 0
    assert repetition("a b c d a b c d") == pytest.approx(1 - 4 / 5)
    assert repetition("la " * 50) == pytest.approx(1 - 1 / 47)
    assert repetition("too short") == repetition("") == 0
    assert most_repeated_line("a\nb\n a \n\n\n\na") == 3
    assert most_repeated_line("\n\n") == 0


def test_the_texts_chosen_are_the_least_alike():
    texts = [
        "red is 3 and blue is 4",
        "red is 3 and blue is 5",
        "quite another way to say it",
        "red is 3, blue is 4",
    ]
    assert most_different(texts, 2) == [0, 2]
    assert most_different(texts, 9) == [0, 1, 2, 3]
    assert most_different([], 2) == []
    assert likeness("a b c", "a b c") == 1
    assert likeness("a b c", "d e f") == 0
    assert likeness("", "") == 1
    assert likeness("a b c d", "d c b a") < 1  # the same words in another order


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("The sum is 1,200 as Ann Lee says.", []),
        ("The sum is 1200. Then it is paid.", []),
        ("The sum is 1300.", ["1300"]),
        ("It is for Bob Ray.", ["Bob", "Ray"]),
        ("Sure. Here it is:\nNothing more", []),
        ("In all 3.5", ["3.5"]),
    ],
)
def test_figures_and_names_that_stand_nowhere_are_added_facts(text, added):
    assert added_facts(text, "What does Ann Lee owe?", "1200") == added


@pytest.mark.parametrize(
    ("verifier", "said", "truth"),
    [
        ("number", "120", "120"),
        ("number", "-0.5", "-0.5"),
        ("number", "12 km", "12 km"),
        ("number", "0", "0"),
        ("chart_number", "98", "100"),
        ("money", "$12.50", "$12.50"),
        ("date", "2024-03-15", "2024-03-15"),
        ("choice", "B", "B"),
        ("yes_no", "Yes", "yes"),
        ("list", "red, blue, green", ["red", "blue", "green"]),
        ("text", "salt", "salt"),
    ],
)
def test_a_conclusion_made_wrong_is_rejected(verifier, said, truth):
    rule, task = VERIFIERS[verifier](), Task(truth, (), "", ("one", "two", "three"))
    assert rule.accepts(said, task)
    wrong = mutants(said, rule)
    assert wrong or said == "0"
    assert not [text for text in wrong.values() if rule.accepts(text, task)]


def test_a_changed_digit_is_another_and_never_a_zero():
    for digit in "0123456789":
        assert changed(f"1{digit}", 1)[1] not in ("0", digit)


def test_a_letter_more_or_less_is_where_text_cannot_be_trusted():
    rule = VERIFIERS["text"]()
    wrong = mutants("Montgomery Street", rule)
    assert rule.accepts(wrong["letter"], Task("Montgomery Street"))  # a known limit, which the statistics show
