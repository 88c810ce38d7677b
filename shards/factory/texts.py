"""What can be said of texts without knowing what they mean: repetition, likeness, figures and names in them."""

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<!^)(?<![.!?:]\s)(?<!\n)\b[A-Z][\w-]+")


def grams(text: str, length: int = 4) -> list[tuple[str, ...]]:
    """Return runs of so many words."""
    words = text.split()
    return [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]


def repetition(text: str) -> float:
    """Return the share of runs of four words that were there before, 0 to 1."""
    found = grams(text)
    return 1 - len(set(found)) / len(found) if found else 0.0


def most_repeated_line(text: str) -> int:
    """Return how often the most frequent line that is not empty occurs."""
    lines = Counter(line.strip() for line in text.splitlines() if line.strip())
    return max(lines.values(), default=0)


def likeness(one: str, other: str) -> float:
    """Return the share of runs of three words and of words that two texts have in common, 0 to 1 (Jaccard)."""
    first, second = ({*grams(each, 3), *((word,) for word in each.split())} for each in (one, other))
    return len(first & second) / len(first | second) if first | second else 1.0


def most_different(texts: Sequence[str], count: int) -> list[int]:
    """Return the numbers of the texts least alike: the first, then always the one least like those chosen."""
    chosen = [0] if texts else []
    while len(chosen) < min(count, len(texts)):
        rest = [at for at in range(len(texts)) if at not in chosen]
        chosen.append(min(rest, key=lambda at: (max(likeness(texts[at], texts[other]) for other in chosen), at)))
    return sorted(chosen)


def added_facts(text: str, *known: str) -> list[str]:
    """Return figures and names of a text that stand in none of the known texts.

    A name is a word with a capital that does not begin a sentence or a line.
    """
    together = " ".join(known)
    words = {word.casefold() for word in _WORD.findall(together)}
    figures = {figure.replace(",", "") for figure in _FIGURE.findall(together)}
    added = [each for each in _FIGURE.findall(text) if each.replace(",", "") not in figures]
    return added + [each for each in _NAME.findall(text) if each.casefold() not in words]
