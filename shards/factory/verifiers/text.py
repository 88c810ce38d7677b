"""Short texts."""

import re
import unicodedata
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from shards.factory.verifiers.verifier import Task, Verifier

ALIKE = 0.9
_QUOTES = str.maketrans({**dict.fromkeys("“”„«»″", '"'), **dict.fromkeys("‘’‚′`", "'"), **dict.fromkeys("‐‑‒–—−", "-")})
_RATIO = re.compile(r"\s*\d+\s*:\s*\d+\s*")

DECIDING = frozenset((
    "north", "south", "east", "west", "northern", "southern", "eastern", "western", "left", "right", "upper",
    "lower", "top", "bottom", "male", "female", "man", "woman", "men", "women", "increase", "decrease",
    "increased", "decreased", "increasing", "decreasing", "rise", "fall", "first", "last", "before", "after",
    "with", "without", "and", "or", "not", "no", "yes", "true", "false", "more", "less", "most", "least",
    "maximum", "minimum", "inside", "outside", "above", "below", "open", "closed", "import", "export",
    "imports", "exports", "buyer", "seller", "sender", "receiver", "debit", "credit", "include", "exclude",
))  # fmt: skip


class Text(Verifier):
    """A text alike by nine tenths, with the same digits and no digit in place of a letter."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether two texts agree."""
        one, other = folded(said), folded(str(truth))
        if one == other:
            return True
        if _RATIO.fullmatch(other):
            return one.replace(" ", "") == other.replace(" ", "")
        if digits(one) != digits(other) or not one or opposed(one, other):
            return False
        longest = max(len(one), len(other))
        return 1 - Levenshtein.distance(one, other) / longest >= ALIKE and same_shape(one, other)


def folded(text: str) -> str:
    """Return a text without case, surplus spaces, ligatures, unlike quotes and dashes, and a final stop."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_QUOTES)
    text = " ".join(text.split()).strip()
    text = text.strip('"*_') if text.count('"') == 2 and text[:1] == text[-1:] == '"' else text.strip("*_")
    return text.rstrip(".").strip()


def opposed(one: str, other: str) -> bool:
    """Return whether texts differ in words that decide: directions and the like, or a prefix such as "un"."""
    first, second = one.split(), other.split()
    if [word for word in first if word in DECIDING] != [word for word in second if word in DECIDING]:
        return True
    pairs = zip(first, second, strict=False) if len(first) == len(second) else ()
    return any(a != b and (a.endswith(b) or b.endswith(a)) for a, b in pairs)


def digits(text: str) -> list[str]:
    """Return the runs of digits in a text."""
    return re.findall(r"\d+", text)


def same_shape(one: str, other: str) -> bool:
    """Return whether words with digits in them are the same in both: a digit for a letter is another code."""
    mixed = re.compile(r"\S*\d\S*")
    return mixed.findall(one) == mixed.findall(other)
