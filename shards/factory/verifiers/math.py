"""Mathematics in LaTeX, compared by math-verify and by value."""

import re
from collections.abc import Sequence
from typing import Any

from fcot.errors import UserError
from shards.factory.verifiers.number import Number, same_kind
from shards.factory.verifiers.quantity import plain, quantities, single
from shards.factory.verifiers.verifier import Task, Verifier

SECONDS = 5
LONGEST = 5000  # characters that are parsed; parsing takes more than proportionally longer
DIGITS = 60  # to which values must agree
_LARGE = re.compile(
    r"\^\s*\{?\s*\(?\s*\d{4,}|\d{4,}\s*!|\\(?:sum|prod)|(?:\*\*|\^)[^,]*(?:\*\*|\^)[^,]*(?:\*\*|\^)|!\s*!|\d{1000,}"
)
_CLOCK = re.compile(r"\s*\d{1,2}:\d{2}\s*")
_BRACKETED = re.compile(r"^\s*\\?(?:left)?\s*([(\[]|\\\{)(.*?)\\?(?:right)?\s*([)\]]|\\\})\s*$", re.DOTALL)
_RELATION = re.compile(r"(\\leq?(?![a-z])|\\geq?(?![a-z])|≤|≥|<|>|\\neq?(?![a-z]))")
_SPACES = re.compile(r"\\[,;:! ]|\s+|\\left|\\right|\\displaystyle")


class Math(Verifier):
    """An expression, set, interval, relation or matrix equal to the known one."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether two expressions are equal, and not only the question's own expression again."""
        truth = str(truth)
        if squeezed(said) == squeezed(truth):
            return True
        if copied(said, truth, task.question) or any(
            _LARGE.search(each) or len(each) > LONGEST for each in (said, truth)
        ):
            return False
        if _CLOCK.fullmatch(said) or _CLOCK.fullmatch(truth):
            return False
        names = [each.partition("=")[0].strip() for each in (said, truth) if each.count("=") == 1]
        if len(names) == 2 and names[0] != names[1] and all(re.fullmatch(r"[A-Za-z](?:_\w)?", each) for each in names):
            return False
        if (numbers := _as_numbers(said, truth, task)) is not None:
            return numbers
        return shape(said) == shape(truth) and _equal(_value_side(said, truth), _value_side(truth, said))


def squeezed(text: str) -> str:
    """Return LaTeX without spaces and sizes of brackets."""
    return _SPACES.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").strip("$")


def copied(said: str, truth: str, question: str) -> bool:
    """Return whether a conclusion is the question's own expression, and more than a name or a number."""
    text = squeezed(said)
    return (
        len(text) > 2
        and not re.fullmatch(r"[\d.,\s-]+", text)
        and text in squeezed(question)
        and text != squeezed(truth)
    )


def shape(text: str) -> tuple[str, ...]:
    """Return what must not differ: brackets of an interval, the number of its parts, relations."""
    text = _assigned(text)
    if found := _BRACKETED.match(squeezed(text)):
        inner = _top_level(found[2])
        if len(inner) > 1 or found[1] == "\\{":
            return (found[1], found[3], str(len(inner)))
    return ("", "", str(len(_top_level(squeezed(text)))))


def _assigned(text: str) -> str:
    """Return what stands behind the name of an assignment."""
    found = re.match(r"^\s*[A-Za-z](?:_\w)?\s*=\s*([^=]+)$", text)
    return found[1] if found else text


def _top_level(text: str) -> list[str]:
    """Return the parts of a text at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _value_side(text: str, other: str) -> str:
    """Return an assignment's value where the other side assigns to the same name or to none."""
    if text.count("=") == 1 and not _RELATION.search(text):
        name, _, value = text.partition("=")
        their, equals, _ = other.partition("=")
        if re.fullmatch(r"\s*[A-Za-z](?:_\w)?\s*", name) and (not equals or their.strip() == name.strip()):
            return value
    return text


def _as_numbers(said: str, truth: str, task: Task) -> bool | None:
    """Return whether two plain numbers are equal, units and percent signs minded; None if one is no plain number."""
    found = []
    for text in (_assigned(said), _assigned(truth)):
        quantity, flat = single(text), plain(text)
        spans = [each.span for each in quantities(flat)]
        if quantity is None or len(spans) != 1 or (flat[: spans[0][0]] + flat[spans[0][1] :]).strip(" $.\\"):
            return None
        found.append(quantity)
    one, other = found
    if not same_kind(one, other):
        return {one.unit, other.unit} == {"°", ""} and one.value == other.value
    return Number().equal(one, other, task)


def _equal(said: str, truth: str) -> bool:
    """Return whether math-verify finds two expressions equal, and their values agree to many digits."""
    try:
        from math_verify import parse, verify
        from math_verify.parser import LatexExtractionConfig
    except ImportError:
        raise UserError('Mathematics is compared by math-verify.\nInstall it: pip install "fcot[data]"') from None
    config = [LatexExtractionConfig()]
    try:
        right = parse(f"${truth}$", extraction_config=config, parsing_timeout=SECONDS)
        found = parse(f"${said}$", extraction_config=config, parsing_timeout=SECONDS)
        if not right or not found or not verify(right, found, timeout_seconds=SECONDS):
            return False
    except Exception:  # a parser of free text raises many types; none of them is an answer
        return False
    return _same_value(found[0], right[0])


def _same_value(one: Any, other: Any) -> bool:
    """Return whether two values without variables agree to many digits; what has none is left to math-verify."""
    try:
        if one.free_symbols or other.free_symbols or not (one.is_number and other.is_number):
            return True
        first, second = one.evalf(DIGITS), other.evalf(DIGITS)
        largest = max(abs(first), abs(second))
        return bool(largest == 0 or abs(first - second) / largest < 10 ** (10 - DIGITS))
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return True
