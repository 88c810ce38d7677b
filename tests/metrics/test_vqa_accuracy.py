import pytest

from fcot.metrics.vqa_accuracy import normalize_answer, vqa_accuracy


@pytest.mark.parametrize(
    ("agreeing", "score"),
    # With n in agreement, each of them sees n - 1 others and everyone else n; each counts a third, at most 1.
    [(0, 0.0), (1, 9 / 30), (2, (2 + 8 * 2) / 30), (3, (3 * 2 + 7 * 3) / 30), (4, 1.0), (10, 1.0)],
)
def test_leaves_each_annotator_out_in_turn(agreeing, score):
    references = ["red"] * agreeing + ["blue"] * (10 - agreeing)
    assert vqa_accuracy("red", references) == pytest.approx(score, abs=1e-12)


def test_annotators_agree_after_normalization():
    references = ["The dog.", "dog", "a dog", "DOG", *["cat"] * 6]
    assert vqa_accuracy("dog!", references) == 1.0


def test_empty_answers_agree():
    # An annotator's "the" is empty once articles are dropped.
    assert vqa_accuracy("", ["the", "", "a", "an", *["cat"] * 6]) == 1.0


def test_one_reference_is_right_or_wrong():
    assert vqa_accuracy("two dogs", ["2 dogs"]) == 1.0
    assert vqa_accuracy("three dogs", ["2 dogs"]) == 0.0


@pytest.mark.parametrize("count", [0, 2, 3, 9, 11])
def test_other_counts_of_annotators_are_refused(count):
    with pytest.raises(ValueError, match=f"10 annotators, but there are {count} references.*'red'"):
        vqa_accuracy("red", ["red"] * count)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        # case, spaces, articles, numbers
        ("  The\tQuick\nfox ", "quick fox"),
        ("an apple a day", "apple day"),
        ("none of the ten", "0 of 10"),
        ("eleven", "eleven"),
        ("one-two", "1 2"),
        ("the", ""),
        ("", ""),
        # commas and question marks are dropped first
        ("$1,234.50", "$1234.50"),
        ("march 5, 2019", "march 5 2019"),
        ("why?", "why"),
        ("a,b", "ab"),
        # full stops stay only beside a digit
        ("T.F. Riehl", "tf riehl"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("v.2", "v.2"),
        ("3.", "3."),
        ("1.5.", "1.5."),
        ("Inc.", "inc"),
        # a mark that is beside a space anywhere is dropped, any other becomes a space
        ("1/8/93", "1 8 93"),
        ("1/8 / 93", "18 93"),
        ("half-full", "half full"),
        ("half -full", "half full"),
        ("x-y -z", "xy z"),
        ("x-y- z", "xy z"),
        ("(555) 123-4567", "555 123 4567"),
        ("[a] {b}", "b"),
        ('"quoted"', "quoted"),
        ("x_y@z", "x y z"),
        ("back\\slash", "back slash"),
        ("wow!", "wow"),
        # other signs are kept
        ("50%", "50%"),
        ("a&b", "a&b"),
        ("10:30", "10:30"),
        ("#1", "#1"),
        ("発票", "発票"),
        # apostrophes
        ("dont", "don't"),
        ("DON'T", "don't"),
        ("wont", "won't"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("yall'd've", "y'all'd've"),
        ("twas", "'twas"),
        ("youve", "you've"),
        ("somebodyd", "somebodyd"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),
        ("Ive", "ive"),
        ("lets", "lets"),
        ("dog's", "dog 's"),
        ("let's", "let 's"),
        ("whats up", "what's up"),
    ],
)
def test_normalizes(text, normalized):
    assert normalize_answer(text) == normalized


def test_only_the_first_32_full_stops_go():
    assert normalize_answer("." * 40) == "." * 8
