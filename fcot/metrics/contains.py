"""Containment, the score of OCRBench: an answer is right if it contains an accepted one."""

from collections.abc import Sequence

from fcot.metrics.answer_metric import AnswerMetric


class Contains(AnswerMetric):
    """Share of answers that contain an accepted one (Liu et al., arXiv 2305.07895)."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `contains`."""
        return contains(prediction, references)


def contains(answer: str, references: str | Sequence[str], *, formula: bool = False) -> float:
    """Return 1 if any accepted answer is a part of the answer, else 0.

    Args:
        answer: The generated answer.
        references: The accepted answers, or the only one; an empty one is a part of everything.
        formula: Compare with their case and without spaces, as rows of HME100k are.
    """
    accepted = [references] if isinstance(references, str) else references
    fold = _formula if formula else _text
    said = fold(answer)
    return float(any(fold(reference) in said for reference in accepted))


def _text(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
