"""Text recognition: a page of running prose, read line by line."""

from collections.abc import Callable

import numpy as np

from shards.render.page import Page
from shards.render.sample import Sample
from shards.render.sources import Split, prose

QUESTION = "Read the text."


def wrapped(
    words: tuple[str, ...], start: int, width: float, rows: int, measure: Callable[[str], float] = len
) -> list[str]:
    """Lay words out in lines of at most a width; a longer word is broken.

    Args:
        words: Words, begun again at their end.
        start: The first word.
        width: Most of a line, as `measure` counts it.
        rows: How many lines.
        measure: Width of a text (default: its characters).
    """
    lines: list[str] = []
    line = ""
    position = start
    rest = ""
    while len(lines) < rows:
        word = rest or words[position % len(words)]
        position += 0 if rest else 1
        rest = ""
        if line and measure(f"{line} {word}") > width:
            lines.append(line)
            line = ""
        if len(lines) == rows:
            break
        if measure(word) > width:
            fits = max(1, next(end for end in range(len(word) - 1, -1, -1) if measure(word[:end]) <= width))
            word, rest = word[:fits], word[fits:]
        line = f"{line} {word}".strip()
    return lines


def random_prose(split: Split, rng: np.random.Generator) -> tuple[str, tuple[str, ...], int]:
    """Choose a random place in a random document: its name, its words, the number of the first."""
    documents = prose(split)
    sizes = np.array([len(words) for _, words in documents], dtype=np.float64)
    name, words = documents[int(rng.choice(len(documents), p=sizes / sizes.sum()))]
    return name, words, int(rng.integers(len(words)))


def text_page(
    split: Split,
    columns: int,
    rows: int,
    rng: np.random.Generator,
    *,
    filled_columns: int | None = None,
    filled_rows: int | None = None,
    plain: bool = False,
) -> Sample:
    """Draw prose from a random place in a random document.

    Args:
        split: Which documents.
        columns: Page width in characters.
        rows: Page height in lines.
        rng: Source of every choice.
        filled_columns: Longest line written (default: the page's width).
        filled_rows: Lines written (default: the page's height).
        plain: One font, no noise.
    """
    name, words, start = random_prose(split, rng)
    lines = wrapped(words, start, filled_columns or columns, filled_rows or rows)
    page = Page(columns, rows, rng, plain=plain)
    for row, line in enumerate(lines):
        page.write(line, 0, row)
    return Sample(page.image(), QUESTION, "\n".join(lines), task="text", source=name)
