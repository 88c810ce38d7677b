"""The letter of an option, as InternVL scores AI2D."""

from collections.abc import Sequence

from fcot.metrics.answer_metric import AnswerMetric


class OptionLetter(AnswerMetric):
    """Share of answers that are the letter of the right option and nothing else."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `option_letter`."""
        return option_letter(prediction, references)


def option_letter(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if an answer is an accepted letter and nothing else, in any case: InternVL's rule for AI2D."""
    return float(any(prediction.strip().lower() == reference.strip().lower() for reference in references))
