"""Rules that find the letter of an option in an answer: InternVL's, VLMEvalKit's and lmms-eval's."""

import re
import string
from collections.abc import Mapping

NONE_FOUND = "Z"  # what VLMEvalKit calls an answer that names no option
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_STATED = re.compile(r"answer is \**([A-D])\b", re.IGNORECASE)
_LETTER_AND_STOP = re.compile(r"\s*([A-Z])\.")


def first_letter(answer: str, choices: Mapping[str, str]) -> str:
    """Return the letter that InternVL's script for ScienceQA takes for the answer, the whole of it if there is none.

    An answer of one character is taken as it is; of a longer one, the first character if it is the letter of an option,
    whatever word it begins; then the first option whose text is in the answer; then X of an answer that begins with
    "X." or "(X)". Where the script fails (a parenthesis and one character) nothing is found.

    Args:
        answer: The generated answer.
        choices: Text of each option by its letter.
    """
    answer = answer.strip()
    if len(answer) == 1:
        return answer
    if answer[:1] in choices:
        return answer[0]
    for letter, text in choices.items():
        if text in answer:
            return letter
    if answer[1:2] == ".":
        return answer[0]
    return answer[1] if answer[0:1] == "(" and answer[2:3] == ")" else answer


def find_letter(answer: str, choices: Mapping[str, str], *, year: int = 2026) -> str | None:
    """Return the letter that VLMEvalKit finds without a judge, None where it would ask one.

    Args:
        answer: The generated answer.
        choices: Text of each option by its letter.
        year: 2024, the state behind InternVL2's published scores, or 2026.

    Returns:
        A letter, or "Z" for a refusal.
    """
    if any(refusal in answer for refusal in _REFUSALS):
        return NONE_FOUND
    words = answer.translate(_SEPARATORS).split()
    named = [letter for letter in choices if letter in words]
    if len(named) == 1 and (year < 2025 or words.index(named[0]) > len(words) - 5):
        return named[0]
    if not named and NONE_FOUND in words:
        return NONE_FOUND
    stated = _STATED.search(answer) if year >= 2026 else None
    if stated and stated[1].upper() in choices:
        return stated[1].upper()
    return _by_text(answer.lower(), choices, year)


def _by_text(answer: str, choices: Mapping[str, str], year: int) -> str | None:
    """Return the only option whose text is in a lower-cased answer."""
    if year >= 2025 and len(answer) > 2 * sum(map(len, choices.values())):
        return None
    named = [letter for letter, text in choices.items() if text.lower() in answer]
    return named[0] if len(named) == 1 else None


def letter_before_stop(answer: str) -> str:
    """Return what lmms-eval compares: the letter of an answer that begins with "X.", else the whole answer."""
    found = _LETTER_AND_STOP.match(answer)
    return found[1] if found else answer


def same_but_for_punctuation(answer: str, letter: str) -> float:
    """Return 1 if two texts are equal without case and punctuation, as lmms-eval compares for AI2D."""
    without = str.maketrans("", "", string.punctuation)
    return float(answer.lower().translate(without) == letter.lower().translate(without))


def letter_or_begins(answer: str, letter: str) -> float:
    """Return 1 if an answer is the letter, in any case, or begins with it and a full stop: lmms-eval for ScienceQA."""
    said = answer.strip().lower()
    return float(said == letter.lower() or answer.strip().startswith(f"{letter}."))
