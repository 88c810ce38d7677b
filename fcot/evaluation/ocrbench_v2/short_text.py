"""Short answers: containment, choices, counts, formulas, handwriting."""

import re
from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from fcot.evaluation.ocrbench_v2.crash import Crash

JOINED_BY = ("", ".", ". ", ",", ", ", "、", ";", "; ", " ", "和")  # what may stand between handwritten answers
_TEXT_COMMAND = re.compile(r"\\text\{([^{}]*)\}")
_DIGITS = re.compile(r"\d+")


def vqa(prediction: str, answers: Any, kind: str | None) -> float:
    """Return the score of an English answer: a part of it if short, one minus the edit distance if long.

    Args:
        prediction: The generated answer.
        answers: The accepted ones, a list or a single one.
        kind: "multiple choice", "case sensitive" or None.

    Raises:
        Crash: If the row has another rule.
    """
    if kind not in (None, "multiple choice", "case sensitive"):
        raise Crash(f"no rule {kind!r} for such a question")
    listed = answers if isinstance(answers, list) else [answers]
    if kind == "multiple choice":
        return float("".join(filter(str.isalpha, prediction)) == listed[0])

    def fold(text: str) -> str:
        return (text if kind else text.lower()).strip().replace("\n", " ")

    near = _near_single if kind and listed is not answers else _near
    said = fold(prediction)
    return max((near(said, fold(str(each)), 5, None) for each in listed), default=0.0)


def vqa_chinese(prediction: str, answers: Any, kind: str | None) -> float:
    """Return the score of a Chinese answer, in which blanks do not count and commas separate; as `vqa` otherwise."""
    if kind is not None:
        return vqa(prediction, answers, kind)

    def fold(text: str) -> str:
        return text.lower().strip().replace("\n", " ").replace(" ", "")

    said = fold(prediction)
    if not isinstance(answers, list):
        return _near_single(said, fold(str(answers)), 4, ",")
    return max((_near(said, fold(str(each)), 4, ",") for each in answers), default=0.0)


def _near(said: str, answer: str, short: int, separator: str | None) -> float:
    """Return 1 if a short answer is a part of what is said; for a long one, its similarity if it is a half or more."""
    if len(answer.split(separator)) < short:
        return float(answer in said)
    return _similarity(said, answer)


def _near_single(said: str, answer: str, short: int, separator: str | None) -> float:
    """Return the score where the row has one answer that is no list: a short one may be near, a long one has 0.

    The official script has its branches the wrong way round there.
    """
    if len(answer.split(separator)) >= short:
        return 0.0
    return 1.0 if answer in said else _similarity(said, answer)


def _similarity(said: str, answer: str) -> float:
    similarity = 1 - Levenshtein.distance(said, answer) / max(len(said), len(answer), 1)
    return similarity if similarity >= 0.5 else 0.0


def count(prediction: str, answers: Sequence[Any], kind: str | None) -> float:
    """Return the score of a number: exact as a part of the answer, or by its relative error.

    Raises:
        Crash: If the row has neither rule.
    """
    if kind not in ("exact match", "regression"):
        raise Crash(f"no rule {kind!r} for counting")
    if kind == "exact match":
        return float(any(str(each).lower().strip() in prediction for each in answers))
    found = _DIGITS.search(prediction)
    number = int(found[0]) if found else 0
    return max((_relative(number, int(each)) for each in answers), default=0.0)


def _relative(number: int, answer: int) -> float:
    if number <= 0 or number >= 2 * answer:
        return 0.0
    score = 1 - abs(number - answer) / answer
    return score if score > 0.5 else 0.0


def formula(prediction: str, answers: Sequence[Any]) -> float:
    """Return 1 if a formula is a part of the answer, blanks apart."""

    def fold(text: str) -> str:
        return text.strip().replace("\n", " ").replace(" ", "")

    said = fold(prediction)
    return float(any(fold(str(each)) in said for each in answers))


def formula_chinese(prediction: str | None, answers: Sequence[Any]) -> float:
    r"""Return 1 if the only formula is a part of the answer, blanks and `\text{…}` apart."""
    if prediction is None or prediction.lower() == "nan":
        return 0.0
    said, answer = (_TEXT_COMMAND.sub(r"\1", text) for text in (prediction, str(answers[0])))
    return formula(said, [answer])


def handwriting(prediction: str, answers: Sequence[Any]) -> float:
    """Return 1 if the characters of the answer are in what is said, one after another, joined in any of ten ways."""
    answer = str(answers[0])
    if len(answer) == 1:
        return float(answer in prediction)
    return float(any(joint.join(answer) in prediction for joint in JOINED_BY))
