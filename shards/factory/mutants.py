"""Conclusions made wrong on purpose: how many of them a verifier accepts bounds how far it can be trusted."""

import re

from shards.factory.verifiers.chart_number import ChartNumber
from shards.factory.verifiers.listing import List
from shards.factory.verifiers.option import Choice
from shards.factory.verifiers.verifier import Verifier
from shards.factory.verifiers.yes_no import YesNo

_OPPOSITES = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_DIGIT = re.compile(r"\d")


def mutants(conclusion: str, verifier: Verifier) -> dict[str, str]:
    """Return wrong conclusions by what was done to the right one.

    Args:
        conclusion: One that was accepted.
        verifier: Which accepted it; what would still be right for it is left out.
    """
    if isinstance(verifier, YesNo):
        word = re.match(r"\w+", conclusion.strip())
        opposite = _OPPOSITES.get(word[0].lower()) if word else None
        return {"opposite": opposite} if opposite else {}
    if isinstance(verifier, Choice) and re.match(r"^[A-G]\b", conclusion):
        return {"another letter": chr(ord(conclusion[0].upper()) + 1)}
    found = {}
    digits = [place.start() for place in _DIGIT.finditer(conclusion)]
    if digits:
        found["first digit"] = changed(conclusion, digits[0])
        if not isinstance(verifier, ChartNumber):
            found["last digit"] = changed(conclusion, digits[-1])
        if re.fullmatch(r"[-−]?[\d.,]+%?", conclusion):
            found["sign"] = conclusion[1:] if conclusion[0] in "-−" else f"-{conclusion}"
    if isinstance(verifier, List) and "," in conclusion:
        found["item left out"] = conclusion.rpartition(",")[0]
    letters = [at for at, sign in enumerate(conclusion) if sign.isalpha()]
    if not digits and len(letters) > 2:
        at = letters[len(letters) // 2]
        found["letter"] = conclusion[:at] + ("x" if conclusion[at].lower() != "x" else "o") + conclusion[at + 1 :]
    return {name: text for name, text in found.items() if not _zero(text) or not _zero(conclusion)}


def changed(text: str, at: int) -> str:
    """Return a text with another digit in a place, never a zero."""
    return text[:at] + str((int(text[at]) + 3) % 9 + 1) + text[at + 1 :]


def _zero(text: str) -> bool:
    return not re.search(r"[1-9A-Za-z]", text)
