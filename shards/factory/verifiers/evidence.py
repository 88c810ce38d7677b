"""Check that the rows which an answer rests on are those that were asked for, and are read out alike."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from rapidfuzz.distance import Levenshtein

from shards.factory.verifiers.text import DECIDING, folded

ALIKE = 0.5  # of the letters: a name so near to an asked one is that name misread
_NAME = re.compile(r"\b[A-Z][\w'’-]*(?:\s+[A-Z][\w'’-]*)*")
_FEWEST_LETTERS = 4

Row = tuple[str, Fraction]  # a name in folded form, and its value


def evidence_fault(rows: Sequence[Row], question: str) -> str:
    """Return why the rows that were read out are not those that were asked for, "" if they may be.

    Args:
        rows: Names and values in the order in which they were read out.
        question: What was asked; "" if it is not known.
    """
    asked = {name for name, _ in rows if names(name, question)}
    if misread(rows, asked, question):
        return "an asked name is misread"
    times = Counter(name for name, _ in rows)
    if asked and max(times[name] for name in asked) > 1:
        if min(times[name] for name in asked) == 1 or max(times.values()) > 2:
            return "asked rows are not read out alike"
        order = [name for name, _ in rows]
        again = next(at for at, name in enumerate(order) if name in order[:at])
        if not {*order[again:]} <= asked:
            return "another row is read out among the asked ones"
    values = {value for name, value in rows if name in asked}
    if rows and asked and rows[-1][0] not in asked and rows[-1][1] in values:
        return "the last row read out was not asked for"
    return ""


def names(name: str, question: str) -> bool:
    """Return whether a question names something, in whole words."""
    return bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", folded(question)))


def misread(rows: Sequence[Row], asked: set[str], question: str) -> bool:
    """Return whether a name is nearly an asked one: with the same value, or in place of it."""
    wanted = asked | {folded(span) for span in _NAME.findall(question)[1:]}
    read = dict(rows)
    for name, value in rows:
        for other in wanted:
            if name in asked or not near(name, other):
                continue
            if other not in read or read[other] == value:
                return True
    return False


def near(name: str, other: str) -> bool:
    """Return whether two names are likely writings of one; what differs in figures or in words of meaning is not."""
    if name == other or min(len(name), len(other)) < _FEWEST_LETTERS or name.rstrip("s") == other.rstrip("s"):
        return False
    if re.findall(r"\d+", name) != re.findall(r"\d+", other) or {*name.split(), *other.split()} & DECIDING:
        return False
    return 1 - Levenshtein.distance(name, other) / max(len(name), len(other)) >= ALIKE
