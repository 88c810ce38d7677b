"""The letter of an option, as InternVL scores AI2D."""

from collections.abc import Sequence

from fcot.metrics.answer_metric import AnswerMetric


class OptionLetter(AnswerMetric):
    """Share of answers that are the letter of the right option and nothing else."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `exact_letter`."""
        return max(exact_letter(prediction, reference) for reference in references)


def exact_letter(answer: str, letter: str) -> float:
    """Return 1 if an answer is the letter and nothing else, in any case: InternVL's rule for AI2D."""
    return float(answer.strip().lower() == letter.strip().lower())
