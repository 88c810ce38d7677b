"""MME's rules."""

import pytest

from fcot.evaluation.scoring.mme import COGNITION, PERCEPTION, category_scores, harness_yes_no, internvl_answer
from fcot.evaluation.scoring.words import yes_no
from fcot.metrics.yes_no import yes_or_no


def test_a_pair_counts_again_when_both_answers_are_right():
    pictures = {"1": [True, True], "2": [True, False], "3": [False, False]}
    assert category_scores({"color": pictures})["color"] == pytest.approx(100 * (2 + 0.5 + 0) / 3)


def test_the_most_are_2000_and_800():
    scores = category_scores({name: {"1": [True, True]} for name in (*PERCEPTION, *COGNITION)})
    assert [sum(scores[name] for name in names) for names in (PERCEPTION, COGNITION)] == [2000, 800]


@pytest.mark.parametrize(
    ("said", "official", "internvl", "lmms_eval", "vlmevalkit"),
    [
        ("  yes", "other", "other", "yes", "yes"),
        ("\nNo", "no", "no", "no", "no"),
        ("know", "no", "no", "no", "other"),
        ("True.", "other", "yes", "other", "other"),
        ("不是", "other", "no", "other", "other"),  # "not", which holds "is"
        ("是的", "other", "yes", "other", "other"),
        ("Y.", "other", "other", "yes", "other"),
        ("The answer is yes", "other", "other", "other", "yes"),
        ("yes and no", "yes", "yes", "yes", "other"),
    ],
)
def test_four_scripts_hear_different_answers(said, official, internvl, lmms_eval, vlmevalkit):
    assert yes_or_no(said) == official
    assert yes_or_no(internvl_answer(said)) == internvl
    assert harness_yes_no(said) == lmms_eval
    assert yes_no(said) == vlmevalkit
