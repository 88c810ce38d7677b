"""Where models differ: by length of the answer, tiles, size of the page, and on rows that fewer tiles get wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fcot.evaluation.benchmarks.benchmark import Column
from fcot.evaluation.results.tested import TestedSet
from fcot.evaluation.rows import Scored

WRONG = 0.5  # a score below it

LENGTHS = ((4, "1 to 4 characters"), (10, "5 to 10"), (30, "11 to 30"), (None, "over 30"))
TILES = ((1, "1 tile"), (4, "2 to 4"), (7, "5 to 7"), (13, "8 to 13"), (None, "over 13"))
MEGAPIXELS = ((0.25, "up to 0.25 megapixels"), (1.0, "up to 1"), (4.0, "up to 4"), (None, "over 4"))


@dataclass(frozen=True)
class Slice:
    """Some rows of a set.

    Attributes:
        kind: What they are told apart by.
        name: Which of them they are.
        ids: Ids of the rows.
    """

    kind: str
    name: str
    ids: set[str]


def slices_of(of: TestedSet, difficult: set[str] | None = None) -> list[Slice]:
    """Return the slices of a set that have rows.

    Args:
        of: As one model answered it, the first: tiles are those of its pages.
        difficult: Ids of rows that fewer tiles get wrong.
    """
    kinds: tuple[tuple[str, Callable[[Scored], float], Sequence[tuple[float | None, str]]], ...] = (
        ("answer", lambda each: min(map(len, each.row.references), default=0), LENGTHS),
        ("tiles", lambda each: each.answer.tiles, TILES),
        ("page", lambda each: each.answer.size[0] * each.answer.size[1] / 1e6, MEGAPIXELS),
    )
    found = []
    for kind, value, bounds in kinds:
        ids: dict[str, set[str]] = {name: set() for _, name in bounds}
        for each in of.scored:
            if each.answer.failed and kind != "answer":  # a page that cannot be read has no size
                continue
            name = next(name for most, name in bounds if most is None or value(each) <= most)
            ids[name].add(each.row.id)
        found += [Slice(kind, name, its) for name, its in ids.items() if its]
    if difficult is not None:
        found.append(Slice("difficult", "wrong at fewer tiles", difficult))
    return found


def difficult_rows(of: TestedSet, scoring: str) -> set[str]:
    """Return the rows that a model got wrong, here one whose pages were shown at fewer tiles."""
    return {each.row.id for each in of.scored if (each.scores[scoring] or 0.0) < WRONG}


def columns_of(of: TestedSet, ids: set[str], scoring: str) -> dict[str, Column]:
    """Return the columns of some rows by name, without those that have none of them."""
    return {column.name: column for column in of.only(ids).columns(scoring)}
