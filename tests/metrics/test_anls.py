import pytest

from fcot.metrics.anls import anls


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        # 3 of 7 letters differ; kitten → sitting is the textbook case.
        ("kitten", ["sitting"], 1 - 3 / 7),
        ("abcd", ["abxy"], 0.5),  # exactly the threshold counts
        ("abc", ["axy"], 0.0),  # a third is below it
        # On either side of the threshold, as near as short answers come: 6 and then 5 letters of 11 are right.
        ("abcdefuvwxy", ["abcdefghijk"], 6 / 11),
        ("abcdetuvwxy", ["abcdefghijk"], 0.0),
        ("a" * 50 + "x" * 51, ["a" * 101], 0.0),
        ("a" * 51 + "x" * 50, ["a" * 101], 51 / 101),
        ("KITTEN", ["kitten"], 1.0),
        ("  green \t\n tea ", ["Green Tea"], 1.0),
        ("greentea", ["green tea"], 1 - 1 / 9),
        ("cat", ["dog", "cats", "cow"], 0.75),  # the nearest reference counts, not the first
        ("", [""], 1.0),
        (" ", [""], 1.0),
        ("", ["a"], 0.0),
        ("a", [""], 0.0),
        ("発票", ["発表"], 0.5),  # code points, not bytes
    ],
)
def test_hand_counted(prediction, references, score):
    assert anls(prediction, references) == pytest.approx(score, abs=1e-12)


def test_surplus_spaces_make_an_error_cheaper():
    # One edit in four letters, but eight characters as they were given.
    assert anls("abcd    ", ["abcx"]) == pytest.approx(1 - 1 / 8)


def test_sharp_s_counts_as_two_letters():
    # "STRASSE" has seven letters where "straße" has six.
    assert anls("straßx", ["straße"]) == pytest.approx(1 - 1 / 7)
    assert anls("straße", ["strasx"]) == pytest.approx(1 - 2 / 7)
    assert anls("strasx", ["straße"]) == pytest.approx(1 - 2 / 7)


def test_case_is_folded_by_lower_casing_only():
    # Full case folding would make ß equal to ss: 2 edits of 7 instead of none.
    assert anls("straße", ["strasse"]) == pytest.approx(1 - 2 / 7)
