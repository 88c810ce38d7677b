"""Submissions to the Robust Reading Competition."""

import pytest

from fcot.errors import UserError
from fcot.evaluation.scoring.rrc import check_submission

TRUTH = {
    "dataset_name": "docvqa",
    "data": [{"questionId": 7, "answers": ["cat"]}, {"questionId": 9, "answers": ["dog", "a dog"]}],
}
SAID = [{"questionId": 9, "answer": "DOG"}, {"questionId": 7, "answer": "cats", "evidence": [1]}]


def test_answers_score_in_any_order_and_with_further_keys():
    for submission in (SAID, SAID[::-1]):
        assert check_submission(TRUTH, submission) == {7: 0.75, 9: 1.0}


@pytest.mark.parametrize(
    ("submission", "message"),
    [
        ({"data": SAID}, "is a dict"),
        (None, "is a NoneType"),
        (SAID[:1], "1 questions have no answer"),
        ([*SAID, SAID[0]], "there twice"),
        ([{"questionId": "7", "answer": "cat"}, SAID[0]], "'7' in row 0 is none"),
        ([{"questionId": [7], "answer": "cat"}], "none of the split"),
        ([{"answer": "cat"}], "none of the split"),
        ([{"questionId": 7, "answer": ["cat"]}], "answer to 7 is"),
        ([{"questionId": 7, "answer": 4}], "answer to 7 is"),
        ([{"questionId": 7}], "answer to 7 is None"),
        (["cat"], "Row 0 of the submission is 'cat'"),
    ],
)
def test_what_the_server_refuses_is_refused(submission, message):
    with pytest.raises(UserError, match=message):
        check_submission(TRUTH, submission)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"data": TRUTH["data"]}, "no dataset_name"),
        ({"dataset_name": "docvqa"}, "no data"),
        ({"dataset_name": "docvqa", "data": [{"questionId": 7, "answers": None}]}, "no answer to question 7"),
    ],
)
def test_a_ground_truth_that_cannot_score_is_refused(truth, message):
    with pytest.raises(UserError, match=message):
        check_submission(truth, SAID)
