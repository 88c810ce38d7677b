"""The Robust Reading Competition's submissions (DocVQA, InfographicVQA): what is refused, and what it scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcot.errors import UserError
from fcot.metrics.anls import anls


def check_submission(ground_truth: Mapping[str, Any], submission: Any) -> dict[int, float]:
    """Return the score of each question of a submission.

    Args:
        ground_truth: The split's file: `dataset_name`, and `data` with `questionId` and `answers`.
        submission: A list of `{"questionId": int, "answer": str}`; further keys are ignored.

    Raises:
        UserError: If the server would refuse it.
    """
    if "dataset_name" not in ground_truth:
        raise UserError("The ground truth has no dataset_name.\nGive the split's official file.")
    if not isinstance(submission, list):
        raise UserError(f"The submission is a {type(submission).__name__}.\nWrite a list of questionId and answer.")
    accepted = {row["questionId"]: row["answers"] for row in ground_truth["data"]}
    said: dict[int, str] = {}
    for row in submission:
        said_id, answer = row.get("questionId"), row.get("answer")
        if said_id not in accepted or said_id in said:
            what = "twice" if said_id in said else "and is none of the split"
            raise UserError(f"The questionId {said_id!r} is there {what}.\nGive each question of the split once.")
        if not isinstance(answer, str):
            raise UserError(f"The answer to {said_id} is {answer!r}.\nWrite it as text.")
        said[said_id] = answer
    missing = [each for each in accepted if each not in said]
    if missing:
        raise UserError(f"{len(missing)} questions have no answer, such as {missing[0]}.\nAnswer all of the split.")
    return {row_id: anls(said[row_id], references) for row_id, references in accepted.items()}


def submission_of(answers: Mapping[int, str], order: Sequence[int]) -> list[dict[str, Any]]:
    """Return the submission of answers by questionId."""
    return [{"questionId": row_id, "answer": answers[row_id]} for row_id in order]
