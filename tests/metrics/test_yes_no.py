"""MME's rule."""

import pytest

from fcot.metrics import METRICS
from fcot.metrics.yes_no import yes_or_no


@pytest.mark.parametrize(
    ("said", "found"),
    [("Yes, it is", "yes"), ("no", "no"), ("  yes", "other"), ("know", "no"), ("eyes", "yes"), ("true", "other")],
)
def test_the_first_four_characters_count(said, found):
    assert yes_or_no(said) == found


def test_saying_neither_is_wrong():
    assert METRICS["yes_no"].score("maybe", ["Yes"]) == 0
    assert METRICS["yes_no"].score("Yes.", ["Yes"]) == 1
