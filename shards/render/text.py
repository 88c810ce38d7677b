"""Text recognition: a page of running prose, read line by line."""

import numpy as np

from shards.render.page import Page
from shards.render.sample import Sample
from shards.render.sources import Split, prose

QUESTION = "Read the text."


def wrapped(words: tuple[str, ...], start: int, columns: int, rows: int) -> list[str]:
    """Lay words out in lines of at most `columns` characters; a longer word is broken."""
    lines: list[str] = []
    line = ""
    position = start
    rest = ""
    while len(lines) < rows:
        word = rest or words[position % len(words)]
        position += 0 if rest else 1
        rest = ""
        if line and len(line) + 1 + len(word) > columns:
            lines.append(line)
            line = ""
        if len(lines) == rows:
            break
        if len(word) > columns:
            word, rest = word[:columns], word[columns:]
        line = f"{line} {word}".strip()
    return lines


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
    documents = prose(split)
    sizes = np.array([len(words) for _, words in documents], dtype=np.float64)
    name, words = documents[int(rng.choice(len(documents), p=sizes / sizes.sum()))]
    lines = wrapped(words, int(rng.integers(len(words))), filled_columns or columns, filled_rows or rows)
    page = Page(columns, rows, rng, plain=plain)
    for row, line in enumerate(lines):
        page.write(line, 0, row)
    return Sample(page.image(), QUESTION, "\n".join(lines), task="text", source=name)
