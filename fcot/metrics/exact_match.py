"""Exact match: the answer is an accepted one, letter for letter."""

from collections.abc import Sequence

from fcot.metrics.answer_metric import AnswerMetric


class ExactMatch(AnswerMetric):
    """Share of answers that equal an accepted one, ignoring white space around both."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `exact_match`."""
        return exact_match(prediction, references)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if an answer equals an accepted one, else 0; case and inner spaces count.

    Args:
        prediction: The generated answer.
        references: The accepted answers, at least one.

    Returns:
        1.0 or 0.0.
    """
    answer = prediction.strip()
    return float(any(answer == reference.strip() for reference in references))
