"""What the audit says about one point: a sentence, its arithmetic, and the figures behind it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """A table of figures.

    Attributes:
        head: Titles of the columns.
        rows: Cells, as text.
        words: The first so many columns hold words and stand on the left; figures stand on the right.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


@dataclass(frozen=True)
class Finding:
    """A point of the audit.

    Attributes:
        title: What it is about.
        sentence: What was found.
        arithmetic: How it was computed, and what it rests on.
        tables: The figures.
        flagged: What does not fit, a few words for each; empty if all fits.
    """

    title: str
    sentence: str
    arithmetic: str
    tables: Sequence[Figures]
    flagged: Sequence[str] = ()


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, minus as a minus sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def listed(words: Sequence[str]) -> str:
    """Return words as an enumeration: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
