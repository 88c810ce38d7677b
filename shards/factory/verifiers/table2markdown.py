"""A table in Markdown."""

import re
from collections.abc import Sequence

from shards.factory.verifiers.verifier import Task, Verifier

_FENCE = re.compile(r"```(?:markdown|md)?\s*\n(.*?)\n?```", re.DOTALL)
_DASHES = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)*\s*:?-+:?\s*\|?\s*")
_BAR = re.compile(r"(?<!\\)\|")


class Table2markdown(Verifier):
    """All rows and columns in order, cells exactly as printed."""

    whole = True

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether two tables are the same."""
        one, other = table(said), table(str(truth))
        return one is not None and one == other

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether the known answer is a table."""
        return isinstance(truth, str) and table(truth) is not None


def table(text: str) -> list[list[str]] | None:
    """Return the cells of the only table of a text, None if there is none or several."""
    fenced = _FENCE.search(text)
    lines = (fenced[1] if fenced else text).strip("\n").split("\n")
    dashes = [number for number, line in enumerate(lines) if "-" in line and _DASHES.fullmatch(line)]
    if len(dashes) != 1 or dashes[0] == 0:
        return None
    start = dashes[0] - 1
    rows = [lines[start]]
    for line in lines[start + 2 :]:
        if not _BAR.search(line):
            break
        rows.append(line)
    cells = [_cells(row) for row in rows]
    if "|" not in lines[start] and "|" not in lines[dashes[0]]:
        return None
    width = len(_cells(lines[dashes[0]]))
    return cells if all(len(row) == width for row in cells) and len(cells) > 1 else None


def _cells(line: str) -> list[str]:
    line = line.strip()
    line = line[1:] if line.startswith("|") else line
    line = line[:-1] if line.endswith("|") and not line.endswith("\\|") else line
    return [" ".join(cell.split()) for cell in _BAR.split(line)]
