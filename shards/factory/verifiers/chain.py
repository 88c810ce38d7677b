"""Check a chain of thought against itself: equations, what it ends with, what it read out."""

import operator
import re
from collections.abc import Callable
from fractions import Fraction

from shards.factory.verifiers.evidence import evidence_fault
from shards.factory.verifiers.quantity import Quantity, in_words, plain, quantities
from shards.factory.verifiers.text import folded

_NUM = r"-?\d[\d,]{0,40}(?:\.\d{1,40})?%?"
_EQUATION = re.compile(
    rf"(?<![\w.^/=])({_NUM}(?:\s*[-+×x*·/÷:]\s*{_NUM})+)\s*(=|≈)\s*({_NUM})(?![\d^]|\s*[-+×*·/÷^]\s*\d)"
)
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|[-+×x*·/÷:]")
_OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add, "-": operator.sub,
    **dict.fromkeys("×x*·", operator.mul), **dict.fromkeys("/÷:", operator.truediv),
}  # fmt: skip
_READ_OUT = re.compile(r"^\s*([^\W\d][^:\n=]{0,40}?)\s*:\s*(-?[\d,]{1,40}(?:\.\d{1,40})?%?)\s*$", re.MULTILINE)
_ORDER = re.compile(r"^\s*([^\W\d][^:\n<>=]{0,40}?)\s*([<>])\s*([^\W\d][^:\n<>=]{0,40}?)\s*$", re.MULTILINE)
_THEREFORE = re.compile(r"\b(?:so|therefore|thus|hence|in total|altogether)\b", re.IGNORECASE)
_PICKED = re.compile(
    r"\b(?:option|choice|answer)\s+\(?([A-H])\)?\s+is\s+(?:the\s+)?(?:correct|right|best|true)|"
    r"\b(?:correct|right|best)\s+(?:option|choice|answer)\s+is\s+\(?([A-H])\b",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    r"\b(?:statement|claim|assertion|it)\s+is\s+(true|false|correct|incorrect|wrong|right)\b", re.IGNORECASE
)
_MOST = re.compile(
    r"\b(?:larger|largest|bigger|biggest|higher|highest|more|most|greater|greatest|longer|longest|max)\b", re.I
)
_LEAST = re.compile(
    r"\b(?:smaller|smallest|lower|lowest|less|least|fewer|fewest|shorter|shortest|min)\b", re.IGNORECASE
)


def equations(text: str) -> list[tuple[list[Fraction], Fraction, bool]]:
    """Return the written equations between numbers: operands, result, whether it is true (a quotient to its digits)."""
    found = []
    for left, _, right in _EQUATION.findall(plain(text)):
        tokens = _TOKEN.findall(left)
        negative = left.strip().startswith("-")
        if negative and tokens and tokens[0] == "-":
            tokens = tokens[1:]
        operands = [_fraction(each) for each in tokens[0::2]]
        if negative:
            operands[0] = -operands[0]
        value = _evaluate(operands, tokens[1::2])
        result = _fraction(right)
        decimals = len(right.rstrip("%").partition(".")[2])
        near = value is not None and (
            value == result
            or (any(each in "/÷:" for each in tokens[1::2]) and abs(value - result) * 2 <= Fraction(1, 10**decimals))
        )
        found.append((operands, result, near))
    return found


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip("%"))


def _evaluate(operands: list[Fraction], signs: list[str]) -> Fraction | None:
    """Return the value of numbers and signs, products first; None for a division by zero or a torn expression."""
    if len(signs) != len(operands) - 1:
        return None
    values, pending = [operands[0]], []
    try:
        for sign, operand in zip(signs, operands[1:], strict=True):
            if sign in "+-":
                pending.append(sign)
                values.append(operand)
            else:
                values[-1] = _OPERATORS[sign](values[-1], operand)
    except ZeroDivisionError:
        return None
    total = values[0]
    for sign, value in zip(pending, values[1:], strict=True):
        total = _OPERATORS[sign](total, value)
    return total


def false_equation(response: str) -> bool:
    """Return whether any written equation is false."""
    return not all(true for *_, true in equations(response))


def rows_read(reasoning: str) -> list[tuple[str, Fraction]]:
    """Return the names and values that were read out, a line each, in order."""
    found = ((folded(name), _fraction(value)) for name, value in _READ_OUT.findall(plain(reasoning)))
    return [(name, value) for name, value in found if name not in ("answer", "final answer")]


def read_out(reasoning: str) -> dict[str, list[Fraction]]:
    """Return the values of each name that was read out, in order."""
    found: dict[str, list[Fraction]] = {}
    for name, value in rows_read(reasoning):
        found.setdefault(name, []).append(value)
    return found


def false_order(reasoning: str, seen: dict[str, list[Fraction]]) -> bool:
    """Return whether a line such as "Ulm > Bonn" says of two rows what their figures do not."""
    for one, sign, other in _ORDER.findall(plain(reasoning)):
        a, b = seen.get(folded(one)), seen.get(folded(other))
        if a and b and not (a[-1] > b[-1] if sign == ">" else a[-1] < b[-1]):
            return True
    return False


def number_fault(reasoning: str, said: Quantity, question: str) -> str:
    """Return why reasoning does not lead to a number, "" if it may.

    Args:
        reasoning: What stands before the conclusion.
        said: The number concluded.
        question: What was asked; "" if it is not known.
    """
    values = {said.value, said.value / 100, said.value * 100} if said.percent else {said.value}
    written = equations(reasoning)
    seen = read_out(reasoning)
    if any(len(set(each)) > 1 for each in seen.values()):
        return "a row is read out twice, unlike"
    if reason := evidence_fault(rows_read(reasoning), question):
        return reason
    if written and written[-1][1] not in values:
        return "the last equation has another result"
    named = [name for name in seen if re.search(rf"\b{re.escape(name)}\b", folded(question))]
    if written and seen and not set(written[-1][0]) <= {abs(value) for each in seen.values() for value in each}:
        return "figures are used that were not read out"
    if not written and len(named) == 1 and seen[named[0]][-1] not in values:
        return "what was read out is another figure"
    if not written and (ended := _ended_with(reasoning)) is not None and ended not in values:
        return "the reasoning ends with another figure"
    return ""


def _ended_with(reasoning: str) -> Fraction | None:
    """Return the only figure behind the last "so" or "therefore" of reasoning, None if there is none or several."""
    places = [match.end() for match in _THEREFORE.finditer(reasoning)]
    if not places:
        return None
    last = reasoning[: places[-1]].rsplit(".", 1)[-1] + reasoning[places[-1] :]
    clause = re.split(r"\.(?:\s|$)", reasoning[places[-1] :])[0]
    figures = [each.value for each in quantities(plain(clause))]
    if not figures and re.search(r"in total|altogether", last, re.IGNORECASE):
        figures = [each.value for each in quantities(plain(last))]
    if not figures:
        words = [in_words(word) for word in re.findall(r"[a-z]+(?:-[a-z]+)?", clause.lower())]
        figures = [word for word in words if word is not None]
    return figures[0] if len(set(figures)) == 1 else None


def text_fault(reasoning: str, said: str, question: str) -> str:
    """Return why reasoning does not lead to a text, "" if it may."""
    seen = read_out(reasoning)
    if any(len(set(each)) > 1 for each in seen.values()):
        return "a row is read out twice, unlike"
    if reason := evidence_fault(rows_read(reasoning), question):
        return reason
    if false_order(reasoning, seen):
        return "two rows are put in another order than their figures"
    asked = {name: each[-1] for name, each in seen.items() if re.search(rf"\b{re.escape(name)}\b", folded(question))}
    if len(asked) > 1 and folded(said) in asked and bool(_MOST.search(question)) != bool(_LEAST.search(question)):
        best = (max if _MOST.search(question) else min)(asked.values())
        if asked[folded(said)] != best:
            return "the figures read out say another"
    places = [match.end() for match in _THEREFORE.finditer(reasoning)]
    if places:
        clause = folded(re.split(r"\.(?:\s|$)", reasoning[places[-1] :])[0])
        names = [folded(name) for name in re.findall(r"\b[A-Z]\w+", question)]
        picked = [name for name in names if re.search(rf"\b{re.escape(name)}\b", clause)]
        if picked and folded(said) in names and folded(said) not in picked:
            return "the reasoning ends with another"
    return ""


def option_fault(reasoning: str, letters: frozenset[str]) -> str:
    """Return why reasoning does not lead to options, "" if it may."""
    picked = [(one or other).upper() for one, other in _PICKED.findall(reasoning)]
    return "the reasoning picks another option" if picked and picked[-1] not in letters else ""


def yes_no_fault(reasoning: str, said: str) -> str:
    """Return why reasoning does not lead to a yes or a no, "" if it may."""
    found = _STATEMENT.findall(reasoning)
    if not found:
        return ""
    holds = found[-1].lower() in ("true", "correct", "right")
    return "" if holds == (said in ("yes", "true")) else "the reasoning says the opposite"
