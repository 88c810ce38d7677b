"""Questions about tables that are typed, not drawn: samples without a page.

A page costs the vision tower and a visual token for every two characters; typed text costs neither. A language model
learns from it, at a small part of the cost, all that answers need once a page has been read: to find a row again, to
compare figures, to reckon.
"""

from functools import cache
from string import ascii_lowercase

import numpy as np

from shards.render.questions import ANSWER, KINDS, in_columns, in_order
from shards.render.sample import Sample
from shards.render.sources import Split, Table, tables

LENGTHS = (0.1, 0.5, 0.35, 0.05)  # shares of figures of one to four digits; real ones have mostly two or three


@cache
def _names(split: Split) -> tuple[tuple[str, str], ...]:
    """Return (name, table) of all rows of a split in alphabetical order, none twice."""
    return tuple(sorted({row[0]: table.name for table in tables(split) for row in table.rows}.items()))


def figure(rng: np.random.Generator) -> str:
    """Return a random whole number of one to four digits, never 0."""
    digits = int(rng.choice(len(LENGTHS), p=LENGTHS))
    return str(int(rng.integers(10**digits, 10 ** (digits + 1))))


def typed_table(split: Split, most_rows: int, rng: np.random.Generator) -> Table:
    """Return two or more rows of names with invented figures.

    In a third of the tables the names are neighbours in the alphabet, so that a reader has to look at the whole of
    each; in a quarter they are random letters, so that it has to copy them one by one.
    """
    known, rows, kind = _names(split), int(rng.integers(2, most_rows + 1)), rng.random()
    neighbours = 10 * rows if kind < 1 / 3 else len(known)
    first = int(rng.integers(len(known) - neighbours + 1))
    chosen = [known[first + int(place)] for place in rng.choice(neighbours, size=rows, replace=False)]
    names = [name if kind < 0.75 else _letters(rng) for name, _ in chosen]
    columns = (("City", "Pop"), ("Land", "Area"))[int(rng.random() < 0.2)]
    return Table(chosen[0][1], columns, tuple((name, figure(rng)) for name in names))


def _letters(rng: np.random.Generator) -> str:
    """Return four to nine random letters, the first one large."""
    letters = rng.integers(len(ascii_lowercase), size=int(rng.integers(4, 10)))
    return "".join(ascii_lowercase[int(letter)] for letter in letters).capitalize()


def typed(split: Split, rng: np.random.Generator, *, most_rows: int = 6, most_turns: int = 4) -> Sample:
    """Type a table and ask questions about it in one conversation; sometimes the first answer repeats the table.

    Args:
        split: Which names.
        rng: Source of every choice.
        most_rows: Most rows of the table.
        most_turns: Most questions.
    """
    table = typed_table(split, most_rows, rng)
    turns = []
    for turn in range(int(rng.integers(1, most_turns + 1))):
        asked = list(KINDS.values())[int(rng.choice(len(KINDS), p=(0.2, 0.4, 0.4)))](table, rng)
        repeats = table if turn == 0 and rng.random() < 0.3 else None
        turns.append((asked.question, asked.thought(repeats)))
    turns[0] = ("\n".join([*(": ".join(row) for row in table.rows), turns[0][0]]), turns[0][1])
    return Sample(None, *turns[-1], task="typed", source=table.name, earlier=tuple(turns[:-1]))


def drill(split: Split, rng: np.random.Generator, *, most_turns: int = 4) -> Sample:
    """Ask to compare, add or subtract bare figures; these are the shortest questions there are."""
    turns = [_drilled(int(figure(rng)), int(figure(rng)), rng) for _ in range(int(rng.integers(1, most_turns + 1)))]
    return Sample(None, *turns[-1], task="drill", source=tables(split)[0].name, earlier=tuple(turns[:-1]))


def _drilled(a: int, b: int, rng: np.random.Generator) -> tuple[str, str]:
    """Return a question about two figures, and its answer."""
    kind = ("Larger", "Smaller", "+", "-")[int(rng.integers(4))]
    if kind in ("Larger", "Smaller"):
        steps = in_order((str(a), str(a)), (str(b), str(b)))
        found = max(a, b) if kind == "Larger" else min(a, b)
        return f"{kind}: {a} or {b}?", "\n".join([*steps, f"{ANSWER}{found}"])
    if kind == "-":
        a, b = max(a, b), min(a, b)
    result = a + b if kind == "+" else a - b
    return f"{a}{kind}{b}?", "\n".join([*in_columns(a, b, kind), f"{a}{kind}{b}={result}", f"{ANSWER}{result}"])
