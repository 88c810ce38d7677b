"""Tables among the lines of a page, written in Markdown."""

import statistics
from collections.abc import Sequence

from shards.importers.reading_order import Box, Line, plain_text

CELL_GAP = 0.9  # narrowest space between cells, in heights of a line

Band = tuple[float, float]
Row = list[Line]  # cells


def with_tables(lines: Sequence[Line]) -> str:
    """Return the text of lines in which rows of cells are Markdown tables.

    Rows are two or more lines in succession that have two or more cells each, and whose cells stand in columns. A
    line above that begins in the first column, but has fewer cells, is a title.

    Args:
        lines: In reading order, each from left to right.
    """
    boxes = [box for line in lines for box in line]
    gap = CELL_GAP * statistics.median(box.bottom - box.top for box in boxes) if boxes else 0.0
    rows = [cells_of(line, gap) for line in lines]
    parts: list[str] = []
    start = 0
    while start < len(rows):
        stop, bands = _run(rows, start)
        while stop - start > 1 and _is_title(rows[start], bands):
            parts.append(plain_text([lines[start]]))
            start += 1
        if stop - start > 1:
            parts.append(markdown([_placed(row, bands) for row in rows[start:stop]]))
        else:
            parts.append(plain_text(lines[start:stop]))
        start = stop
    return "\n".join(parts)


def cells_of(line: Line, gap: float) -> Row:
    """Return the cells of a line: words with no more than `gap` between them."""
    cells: Row = []
    end = float("-inf")
    for box in line:
        if box.left - end >= gap:
            cells.append([])
        cells[-1].append(box)
        end = max(end, box.right)
    return cells


def _run(rows: Sequence[Row], start: int) -> tuple[int, list[Band]]:
    """Return where the rows end that make a table with the first one, and its columns."""
    stop, bands = start, list[Band]()
    while stop < len(rows) and len(rows[stop]) > 1:
        wider = _merged([*bands, *map(_extent, rows[stop])])
        apart = len({*_places(rows[stop], wider)}) == len(rows[stop])
        if not apart or len({_place(band, wider) for band in bands}) < len(bands):  # columns would run together
            break
        stop, bands = stop + 1, wider
    return max(stop, start + 1), bands


def _extent(cell: Sequence[Box]) -> Band:
    return min(box.left for box in cell), max(box.right for box in cell)


def _merged(bands: Sequence[Band]) -> list[Band]:
    """Return bands with those that overlap made one, from left to right."""
    merged: list[Band] = []
    for left, right in sorted(bands):
        if merged and left < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(right, merged[-1][1]))
        else:
            merged.append((left, right))
    return merged


def _places(row: Row, bands: Sequence[Band]) -> list[int]:
    """Return the column of each cell."""
    return [_place(_extent(cell), bands) for cell in row]


def _place(band: Band, bands: Sequence[Band]) -> int:
    return next(place for place, (_, right) in enumerate(bands) if band[0] < right)


def _is_title(row: Row, bands: Sequence[Band]) -> bool:
    """Return whether the first line of a table is one above it: a head without a corner begins further right."""
    return len(row) < len(bands) and _places(row, bands)[0] == 0


def _placed(row: Row, bands: Sequence[Band]) -> list[str]:
    """Return the text of each column."""
    cells = dict(zip(_places(row, bands), (plain_text([cell]) for cell in row), strict=True))
    return [cells.get(place, "") for place in range(len(bands))]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table, the first one its head."""
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
