"""Yes or no, as MME scores answers."""

from collections.abc import Sequence

from fcot.metrics.answer_metric import AnswerMetric

_LOOKED_AT = 4  # characters of an answer


class YesNo(AnswerMetric):
    """Share of answers that say yes or no as an accepted one does (Fu et al., arXiv 2306.13394)."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `yes_no`."""
        return yes_no(prediction, references)


def yes_no(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if an answer says yes or no as an accepted one does, else 0; see `yes_or_no`."""
    said = yes_or_no(prediction)
    return float(any(said == yes_or_no(each) and (said != "other" or prediction == each) for each in references))


def yes_or_no(answer: str) -> str:
    """Return "yes", "no" or "other" for an answer, from its first four characters."""
    start = answer.replace("\n", "").lower()[:_LOOKED_AT]
    return next((word for word in ("yes", "no") if word in start), "other")
