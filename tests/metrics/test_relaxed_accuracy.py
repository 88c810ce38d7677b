import pytest

from fcot.metrics.relaxed_accuracy import relaxed_accuracy


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("95", "100"),
        ("105", "100"),  # the limit itself is inside
        ("-10.4", "-10"),
        ("50%", "0.5"),  # a percentage is a fraction
        ("0.52", "50%"),
        ("50 %", "50%"),
        ("5%%", "5%"),
        ("1e3", "1000"),
        ("1_000", "1000"),  # whatever Python reads as a number is one
        ("\uff11\uff12", "12"),
        (" 12\n", "12"),
        ("12", " 12 "),
        ("0", "0"),
        ("0.0%", "0.0%"),
        ("Yes", "yes"),
        (" yes ", "yes"),
        ("", ""),
        ("1,000", "1,000"),  # no number, but the same text
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_right(prediction, reference):
    assert relaxed_accuracy(prediction, [reference]) == 1.0


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("94.9", "100"),
        ("105.01", "100"),
        ("95.1", "-95.1"),
        ("50", "50%"),
        ("0.0", "0"),  # zero is compared as text
        ("0", "0%"),
        ("0.001", "0"),
        ("1000", "1,000"),
        ("$5", "5"),
        ("12 kg", "12"),
        ("nan", "nan"),  # a number that equals nothing
        ("inf", "inf"),  # no relative change from infinity
        ("yes", "yes "),  # a reference is not stripped, only the prediction
        ("yes.", "yes"),
        ("", "a"),
        ("%", ""),
    ],
)
def test_wrong(prediction, reference):
    assert relaxed_accuracy(prediction, [reference]) == 0.0


def test_any_reference_will_do():
    assert relaxed_accuracy("41", ["apple", "40", "7"]) == 1.0
    assert relaxed_accuracy("41", ["apple", "7"]) == 0.0
