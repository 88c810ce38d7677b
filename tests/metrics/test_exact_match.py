import pytest

from fcot.metrics.exact_match import exact_match


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        ("cat", ["dog", "cat"], 1.0),
        (" cat\n", ["cat "], 1.0),
        ("Cat", ["cat"], 0.0),
        ("green  tea", ["green tea"], 0.0),
        ("1", ["1.0"], 0.0),
        ("", [" "], 1.0),
    ],
)
def test_letter_for_letter_between_the_outer_spaces(prediction, references, score):
    assert exact_match(prediction, references) == score
