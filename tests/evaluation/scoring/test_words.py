"""VLMEvalKit's comparison of words."""

import pytest

from fcot.evaluation.scoring.words import vqa
from fcot.metrics.vqa_accuracy import vqa_accuracy


@pytest.mark.parametrize(
    ("said", "reference", "now", "in_2024", "internvl"),
    [
        ("The Stop, sign!", "stop sign", 1, 1, 1),
        ("6.", "6", 0, 1, 1),  # the misspelled rules drop a full stop behind a digit
        ("mike's", "mike 's", 0, 0, 1),
        ("1,000", "1000", 1, 1, 1),
        ("1,000/month", "1000month", 1, 1, 0),  # a comma between digits drops every mark
        ("coca-cola", "coca cola", 1, 1, 1),
    ],
)
def test_where_the_rules_of_three_scripts_part(said, reference, now, in_2024, internvl):
    references = [reference] * 10
    assert vqa(said, references) == now
    assert vqa(said, references, year=2024) == in_2024
    assert vqa_accuracy(said, references, drop_full_stops=True) == internvl
