"""Boxes of OCRBench v2."""

import pytest

from fcot.evaluation.ocrbench_v2 import score

BOX = [100, 100, 300, 200]


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("(100, 100, 300, 200)", 1),
        ("[100,100,300,200) then (0,0,0,0)", 0),  # the last counts
        ("(100,100,300,200) (100,100,1300,200)", 1),  # none beyond 1000
        ("(100.0, 100, 300, 200)", 0),
        ("(-100, 100, 300, 200)", 0),
        ("(300, 200, 100, 100)", 0),  # corners are not put in order
        ("(100, 100, 300, 150)", 0.5),
        ("", 0),
    ],
)
def test_the_last_box_that_can_be_read_is_measured(prediction, expected):
    assert score("text grounding en", "", prediction, BOX).score == pytest.approx(expected)
    assert score("text grounding en", "", prediction, [str(each) for each in BOX]).score == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("{'answer': 'heron', 'bbox': [100, 100, 300, 200]}", 1),
        ("{'answer': 'heron', 'bbox': [100.9, 100.2, 300.9, 200.5]}", 1),  # fractions are cut off
        ("{'answer': 'heron', 'bbox': ['100', '100', '300', '200']}", 1),
        ("{'answer': 'heron', 'bbox': 'none'}", 0.5),
        ("{'bbox': [100, 100, 300, 200]}", 0.5),
        ("answer: heron, bbox: [100, 100, 300, 200]", 0.5),  # no box is found in what is no dictionary
    ],
)
def test_answer_and_box_count_a_half_each(prediction, expected):
    assert score("VQA with position en", "", prediction, ["heron"], bbox=BOX).score == pytest.approx(expected)
