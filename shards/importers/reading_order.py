"""The text of a page from the boxes of its words: lines by overlap, columns one after the other, tables row by row."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GUTTER = 1.2  # narrowest space between columns, in heights of a line; between words it is about 0.3
PROSE = 3.0  # words a line from which text side by side is columns rather than a table
SHORT_PROSE = 2.0  # the same where more than the words speaks for columns
ALIGNED = 0.25  # heights of a line that the lines of two cells of a row may be apart
DEPTH = 6

Gap = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A word, or several, and where it stands on the page in pixels; y grows downwards."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> float:
        """Half-way between top and bottom."""
        return (self.top + self.bottom) / 2

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top


Line = list[Box]


def reading_order(boxes: Sequence[Box], whole_lines: Sequence[Box] = (), depth: int = DEPTH) -> list[Line]:
    """Return the lines of a page in the order they are read in, each from left to right.

    Text side by side is read by columns if it is prose: at least two lines on each side of a gutter, of three words
    and more. Two are enough if the lines do not stand level with each other, or if it is known which words make a line
    and none crosses the gutter. Everything else is read row by row, as tables and forms are.

    Args:
        boxes: The words, in any order.
        whole_lines: The page's lines, where they are known.
        depth: How often columns may be divided into columns.
    """
    known = list(whole_lines) or ([*boxes] if any(" " in box.text for box in boxes) else [])
    rows = lines_of(boxes)
    found: list[Line] = []
    start = 0
    while start < len(rows):
        stop, gaps = _run(rows, start, GUTTER * _height(boxes))
        block = [box for row in rows[start:stop] for box in row]
        choices = ((chosen, _split(block, chosen)) for chosen in _choices(gaps) if depth)
        columns = next((parts for chosen, parts in choices if _are_columns(parts, chosen, known)), [])
        found += [line for column in columns for line in reading_order(column, known, depth - 1)] or rows[start:stop]
        start = stop
    return found


def lines_of(boxes: Iterable[Box]) -> list[Line]:
    """Return boxes as lines from top to bottom: those belong together that overlap by half of their height."""
    lines: list[Line] = []
    top = bottom = 0.0  # means of the last line
    for box in sorted(boxes, key=lambda box: (box.middle, box.left)):
        overlap = min(bottom, box.bottom) - max(top, box.top)
        if lines and overlap >= 0.5 * min(box.height, bottom - top):
            line = lines[-1]
            line.append(box)
            top += (box.top - top) / len(line)
            bottom += (box.bottom - bottom) / len(line)
        else:
            lines.append([box])
            top, bottom = box.top, box.bottom
    return [sorted(line, key=lambda box: box.left) for line in lines]


def _height(boxes: Sequence[Box]) -> float:
    return statistics.median(box.height for box in boxes) if boxes else 0.0


def _free(row: Line) -> list[Gap]:
    """Return the stretches of a row that no box covers, before the first and behind the last one too."""
    free, end = [], float("-inf")
    for box in row:
        if box.left > end:
            free.append((end, box.left))
        end = max(end, box.right)
    return [*free, (end, float("inf"))]


def _run(rows: Sequence[Line], start: int, narrowest: float) -> tuple[int, list[Gap]]:
    """Return where the rows end that share a gutter with the first one, and the gutters they share.

    A gutter has text on both sides, though not in every row: lines of two columns need not be level.
    """
    free = [gap for gap in _free(rows[start]) if gap[1] - gap[0] >= narrowest]
    stop, gaps = start + 1, _inner(free)
    while stop < len(rows):
        both = [(max(a, c), min(b, d)) for a, b in free for c, d in _free(rows[stop])]
        free = [gap for gap in both if gap[1] - gap[0] >= narrowest]
        if not _inner(free):
            break
        stop, gaps = stop + 1, _inner(free)
    return stop, gaps


def _inner(free: Sequence[Gap]) -> list[Gap]:
    return [gap for gap in free if math.isfinite(gap[0]) and math.isfinite(gap[1])]


def _choices(gaps: Sequence[Gap]) -> list[list[Gap]]:
    """Return the gutters to try: all of them, then the widest alone."""
    widest = [max(gaps, key=lambda gap: gap[1] - gap[0])] if len(gaps) > 1 else []
    return [each for each in (list(gaps), widest) if each]


def _split(boxes: Sequence[Box], gaps: Sequence[Gap]) -> list[list[Box]]:
    """Return the boxes of each column."""
    columns: list[list[Box]] = [[] for _ in range(len(gaps) + 1)]
    for box in boxes:
        columns[sum(box.left >= right for _, right in gaps)].append(box)
    return columns


def _are_columns(columns: Sequence[Sequence[Box]], gaps: Sequence[Gap], known: Sequence[Box]) -> bool:
    """Return whether text side by side is read column by column."""
    lines = [lines_of(column) for column in columns]
    if any(len(each) < 2 for each in lines) or any(map(_are_labels, lines[:-1])):
        return False
    words = min(sum(len(box.text.split()) for line in each for box in line) / len(each) for each in lines)
    if words >= PROSE or words < SHORT_PROSE:
        return words >= PROSE
    if any(sum(map(_is_figures, each)) > len(each) / 2 for each in lines):
        return False
    top, bottom = (f(box.middle for column in columns for box in column) for f in (min, max))
    beside = [line for line in known if top <= line.middle <= bottom]
    crossed = any(line.left < left and line.right > right for line in beside for left, right in gaps)
    return bool(beside and not crossed) or not _are_level(lines)


def _are_labels(lines: Sequence[Line]) -> bool:
    """Return whether most lines end with a colon: what follows stands beside them."""
    return sum(line[-1].text.endswith(":") for line in lines) > len(lines) / 2


def _is_figures(line: Line) -> bool:
    """Return whether a line is mostly digits."""
    letters = [letter for box in line for letter in box.text if not letter.isspace()]
    return sum(letter.isdigit() for letter in letters) > len(letters) / 2


def _are_level(columns: Sequence[Sequence[Line]]) -> bool:
    """Return whether most lines of the shortest column have one beside them in every other column."""
    shortest = min(columns, key=len)
    others = [[_middle(line) for line in each] for each in columns if each is not shortest]
    near = ALIGNED * _height([box for line in shortest for box in line])
    level = sum(all(any(abs(_middle(line) - at) <= near for at in each) for each in others) for line in shortest)
    return level > len(shortest) / 2


def _middle(line: Line) -> float:
    return statistics.fmean(box.middle for box in line)


def plain_text(lines: Iterable[Line]) -> str:
    """Return lines as text."""
    return "\n".join(" ".join(box.text for box in line) for line in lines)
