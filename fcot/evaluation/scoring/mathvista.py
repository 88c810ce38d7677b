"""MathVista's rules: extract, normalise, compare (Lu et al., arXiv 2310.02255), and what needs a judge."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from fcot.evaluation.scoring.letters import find_letter

_QUICK = re.compile(r'The answer is "(.*)"\.')
_OPTION = re.compile(r"\(([a-zA-Z])\)")
# A hyphen behind a digit or letter is no sign: the last number of "10-12" is 12.
_NUMBER = re.compile(r"(?:(?<!\w)-)?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)")
_CONCLUSION = re.compile(r"(?:Final answer:|Answer:)\s*(.*)", re.IGNORECASE)


def extract(
    answer: str, fields: Mapping[str, Any], choices: Sequence[str] | None, *, quick: bool = False
) -> str | None:
    """Return what the official script extracts by rule, None where it asks a language model.

    Args:
        answer: The generated answer.
        fields: The row's `question_type`, `answer_type` and `precision`.
        choices: Texts of the options.
        quick: Also take the words in `The answer is "…".`
    """
    if answer == "":
        return ""
    if fields["question_type"] == "multi_choice" and answer in (choices or ()):
        return answer
    kinds = {"integer": int, "float": float}
    if kind := kinds.get(fields["answer_type"]):
        try:
            return str(kind(answer))
        except ValueError:
            pass
    if quick and (found := _QUICK.search(answer)):
        return found[1]
    return None


def concluded(answer: str, fields: Mapping[str, Any], choices: Sequence[str] | None) -> str:
    """Return what InternVL's script extracts.

    Where rules find nothing, that is what follows "Final answer:" or "Answer:" on its line, or else the whole answer.
    """
    extraction = extract(answer, fields, choices)
    if extraction is not None:
        return extraction
    found = _CONCLUSION.search(answer)
    return found[1].strip() if found else answer


def normalize(
    extraction: Any, fields: Mapping[str, Any], choices: Sequence[str] | None, *, ignore_empty: bool = False
) -> str | None:
    """Return an extraction in the form in which answers are compared, None if it has none.

    Args:
        extraction: What was extracted.
        fields: The row's `question_type`, `answer_type` and `precision`.
        choices: Texts of the options.
        ignore_empty: Let an empty extraction be none, instead of the option that is nearest to nothing: the shortest.
    """
    if fields["question_type"] == "multi_choice":
        return _option(extraction, choices or (), ignore_empty)
    kind = fields["answer_type"]
    try:
        if kind == "integer":
            return str(int(float(extraction)))
        if kind == "float":
            return str(round(float(extraction), int(fields["precision"])))
    except (ValueError, OverflowError, TypeError):
        return None
    return str(extraction)


def _option(extraction: Any, choices: Sequence[str], ignore_empty: bool) -> str | None:
    text = str(extraction).strip()
    if ignore_empty and not text:
        return None
    if found := _OPTION.search(text):
        text = found[1].upper()
    if text in (by_letter := lettered(choices)):
        return by_letter[text]
    return min(choices, key=lambda choice: Levenshtein.distance(choice, text))


def prefetched(
    answer: str, fields: Mapping[str, Any], choices: Sequence[str] | None, gold: str, *, year: int = 2026
) -> tuple[Any, bool]:
    """Return what VLMEvalKit extracts without a judge, and whether it is right.

    A letter is taken even if it is wrong, a number only if it is right and not 0; else it asks a judge.

    Args:
        answer: The generated answer.
        fields: The row's `question_type` and `answer_type`.
        choices: Texts of the options.
        gold: The accepted answer.
        year: 2024, the state behind InternVL2's published scores, or 2026.
    """
    if fields["question_type"] == "multi_choice":
        by_letter = lettered(choices or ())
        letter = find_letter(answer, by_letter, year=year)
        return letter, letter is not None and by_letter.get(letter) == gold
    kind = {"integer": int, "float": float}.get(fields["answer_type"])
    try:
        found = None if kind is None else kind(answer)
        right = kind is not None and found == kind(gold)
    except ValueError:
        return None, False
    return (found if right and found else None), right


def lettered(choices: Sequence[str]) -> dict[str, str]:
    """Return options by their letters."""
    return {chr(ord("A") + number): text for number, text in enumerate(choices)}


def rule_score(answer: str, fields: Mapping[str, Any], choices: Mapping[str, str], gold: str) -> float | None:
    """Return the score of an answer where rules can decide, None where a judge is needed.

    Published scores had a language model extract the answer. Here: the official rules; then VLMEvalKit's letter finder,
    or the last number of the answer. Silence is wrong.

    Args:
        answer: The generated answer.
        fields: The row's `question_type`, `answer_type` and `precision`.
        choices: Text of each option by its letter.
        gold: The accepted answer, in normal form.
    """
    options, answer = list(choices.values()), answer.strip()
    if not answer:
        return 0.0
    extraction = extract(answer, fields, options)
    if extraction is None and fields["question_type"] == "multi_choice":
        letter = find_letter(answer, choices)
        if letter is None:
            return None
        extraction = choices.get(letter)
        return 0.0 if extraction is None else float(extraction == gold)
    if extraction is None and fields["answer_type"] in ("integer", "float"):
        numbers = _NUMBER.findall(answer)
        extraction = numbers[-1].replace(",", "") if numbers else None
    if extraction is None:
        return None
    return float(normalize(extraction, fields, options) == gold)
