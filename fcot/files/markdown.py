"""Tables in Markdown, for cards and results."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], rules: Sequence[str] | None = None) -> str:
    """Return a table without a line break at its end; line breaks and bars in cells cannot break it.

    Args:
        head: Titles of the columns.
        rows: Cells, a sequence for each row.
        rules: How each column is aligned: ":--" left, "--:" right (default: "---", as the reader's program does).
    """
    lines = [head, rules or ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in line)} |" for line in lines
    )
