"""Average Normalized Levenshtein Similarity, the score of DocVQA and InfographicVQA."""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from fcot.metrics.answer_metric import AnswerMetric

_THRESHOLD = 0.5


class ANLS(AnswerMetric):
    """Mean similarity of answers to the nearest accepted one (Biten et al. 2019, section 4, eq. 1)."""

    @staticmethod
    def score(prediction: str, references: Sequence[str]) -> float:
        """Score one answer; see `anls`."""
        return anls(prediction, references)


def anls(prediction: str, references: Sequence[str]) -> float:
    """Return the similarity of an answer to the nearest accepted one, as the DocVQA server counts it.

    Args:
        prediction: The generated answer.
        references: The accepted answers, at least one.

    Returns:
        One minus the smallest normalized edit distance; 0 where that is below one half.
    """
    similarity = 1 - min(_normalized_distance(prediction, reference) for reference in references)
    return similarity if similarity >= _THRESHOLD else 0.0


def _normalized_distance(prediction: str, reference: str) -> float:
    """Return edits per character of the longer string, ignoring case and runs of white space."""
    edits = Levenshtein.distance(_folded(prediction), _folded(reference))
    # The server divides by the length of the answers as they were given, upper-cased: surplus spaces make
    # an error cheaper, and a letter such as ß counts as two.
    length = max(len(prediction.upper()), len(reference.upper()))
    return edits / length if length else 0.0


def _folded(text: str) -> str:
    """Return the text in lower case with single spaces between its words."""
    return " ".join(text.lower().split())
