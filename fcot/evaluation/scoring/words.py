"""VLMEvalKit's comparison of words: TextVQA's rule without its first step, and MME's yes or no."""

import re
from collections.abc import Sequence

from fcot.metrics.vqa_accuracy import agreement, without_articles

_MARKS = ';/[]"{}()=+\\_->@<`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
_MISSPELLED_FULL_STOP = re.compile(r"\.(?!\d)")
_MAX_FULL_STOPS = int(re.UNICODE)  # passed in place of a count


def without_marks(text: str, *, year: int = 2026) -> str:
    """Drop each mark that is beside a space, all of them beside a comma between digits; else put a space in its place.

    Args:
        text: Any.
        year: 2024 drops a full stop behind a digit, 2026 keeps it.
    """
    every = _THOUSANDS.search(text) is not None
    drop = {mark for mark in _MARKS if every or f"{mark} " in text or f" {mark}" in text}
    cleaned = text.translate({ord(mark): "" if mark in drop else " " for mark in _MARKS})
    return (_MISSPELLED_FULL_STOP if year < 2025 else _FULL_STOP).sub("", cleaned, count=_MAX_FULL_STOPS)


def vqa(answer: str, references: Sequence[str], *, year: int = 2026) -> float:
    """Return how far ten annotators agree with an answer, words compared as VLMEvalKit does."""

    def normal(text: str) -> str:
        return without_articles(without_marks(text.replace("\n", " ").replace("\t", " ").strip(), year=year).lower())

    said = normal(answer)
    return agreement([normal(reference) == said for reference in references])


def yes_no(answer: str) -> str:
    """Return "yes" or "no" if exactly one of them is a word of the answer, else "other"."""
    words = without_marks(answer.lower()).split()
    found = [word for word in ("yes", "no") if word in words]
    return found[0] if len(found) == 1 else "other"
