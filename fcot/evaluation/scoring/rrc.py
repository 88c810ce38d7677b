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
    if not isinstance(submission, list):
        raise UserError(f"The submission is a {type(submission).__name__}.\nWrite a list of questionId and answer.")
    accepted = _accepted(ground_truth)
    said: dict[int, str] = {}
    for place, row in enumerate(submission):
        if not isinstance(row, dict):
            raise UserError(f"Row {place} of the submission is {row!r}.\nWrite a questionId and an answer in each.")
        said_id, answer = row.get("questionId"), row.get("answer")
        if not isinstance(said_id, int) or said_id not in accepted:
            raise UserError(
                f"The questionId {said_id!r} in row {place} is none of the split.\n"
                "Give each question of the split once, its id as a number."
            )
        if said_id in said:
            raise UserError(f"The questionId {said_id} is there twice.\nGive each question of the split once.")
        if not isinstance(answer, str):
            raise UserError(f"The answer to {said_id} is {answer!r}.\nWrite it as text.")
        said[said_id] = answer
    missing = [each for each in accepted if each not in said]
    if missing:
        raise UserError(f"{len(missing)} questions have no answer, such as {missing[0]}.\nAnswer all of the split.")
    return {row_id: anls(said[row_id], references) for row_id, references in accepted.items()}


def _accepted(ground_truth: Mapping[str, Any]) -> dict[int, Sequence[str]]:
    """Return the accepted answers of each question of a split."""
    for name in ("dataset_name", "data"):
        if name not in ground_truth:
            raise UserError(f"The ground truth has no {name}.\nGive the split's official file.")
    accepted = {row["questionId"]: row.get("answers") for row in ground_truth["data"]}
    silent = [row_id for row_id, answers in accepted.items() if not answers]
    if silent:
        raise UserError(
            f"The ground truth has no answer to question {silent[0]}, as in a split whose answers the server keeps.\n"
            "Give a split with answers, such as val."
        )
    return accepted
