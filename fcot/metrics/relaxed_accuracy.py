"""Relaxed accuracy, the score of ChartQA: numbers may be five per cent off."""

from collections.abc import Sequence

from fcot.metrics.answer_metric import AnswerMetric

_MAX_RELATIVE_CHANGE = 0.05


class RelaxedAccuracy(AnswerMetric):
    """Share of answers that are right, with a tolerance for numbers (Masry et al. 2022, section 5.1)."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `relaxed_accuracy`."""
        return relaxed_accuracy(prediction, references)


def relaxed_accuracy(prediction: str, references: Sequence[str], *, of_answer: bool = False) -> float:
    """Return 1 if an answer is close enough to an accepted one, else 0.

    A number may be off by five per cent of the accepted one, as ChartQA defines it; InternVL's script swaps the two and
    allows five per cent of the answer. White space is ignored around the prediction, and counts around a reference.

    Args:
        prediction: The generated answer.
        references: The accepted answers, at least one.
        of_answer: Allow five per cent of the answer, as InternVL's published scores do.

    Returns:
        1.0 or 0.0.
    """
    answer = prediction.strip()
    pairs = (((reference, answer) if of_answer else (answer, reference)) for reference in references)
    return float(any(_is_close_enough(found, expected) for found, expected in pairs))


def _is_close_enough(prediction: str, reference: str) -> bool:
    """Compare as numbers where both are numbers and the expected one is not zero, else as text."""
    found, expected = _number(prediction), _number(reference)
    # No relative change from zero exists, so zero is compared as text: "0.0" is not "0".
    if found is None or not expected:
        return prediction.lower() == reference.lower()
    return abs(found - expected) / abs(expected) <= _MAX_RELATIVE_CHANGE


def _number(text: str) -> float | None:
    """Read whatever Python reads as a float, and percentages as fractions; None if it is neither."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
