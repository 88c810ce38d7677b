"""InternVL's rule for AI2D."""

import pytest

from fcot.metrics import METRICS


@pytest.mark.parametrize(("said", "score"), [("B", 1), (" b\n", 1), ("B.", 0), ("(B)", 0), ("B. cat", 0), ("", 0)])
def test_only_the_letter_counts(said, score):
    assert METRICS["option_letter"].score(said, ["B"]) == score
