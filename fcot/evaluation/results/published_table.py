"""Published scores of the measured columns, in the form of a paper's table: a row a model, a column a benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

MARKS = {"†": "another split", "‡": "another rule, a judge, or not known which"}


def published_rows(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Return the table's head and cells, and what its marks mean.

    Where a model is published for several splits, the measured one's is shown. A row has an average only if it has all
    columns of the measured one, of the same splits.

    Args:
        found: The result.

    Returns:
        Titles of the columns, a list of cells for each row, and notes beneath; all empty if nothing is published.
    """
    columns = {name: column for name, column in found["columns"].items() if column["published"]}
    over = (found["average"] or {}).get("columns", [])
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, column in columns.items():
        for entry in column["published"]:
            row = rows.setdefault((entry["model"], entry["source"]), {})
            if name not in row or row[name]["mark"] == "†":
                row[name] = entry
    if not rows:
        return [], [], []
    sources = list(dict.fromkeys(source for _, source in rows))
    lines = [
        [
            f"{model} ({sources.index(source) + 1})",
            *(f"{row[name]['value']:.2f}{row[name]['mark']}" if name in row else "" for name in columns),
            *([_average(row, over)] if over else []),
        ]
        for (model, source), row in rows.items()
    ]
    head = ["", *(column["title"] for column in columns.values()), *([f"average of {len(over)}"] if over else [])]
    marks = {entry["mark"] for row in rows.values() for entry in row.values()}
    notes = [f"({number}) {source}" for number, source in enumerate(sources, 1)]
    return head, lines, notes + [f"{mark} {meaning}" for mark, meaning in MARKS.items() if mark in marks]


def _average(row: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return the mean over columns, marked if one of them is; none if one is missing or of another split."""
    if any(name not in row or row[name]["mark"] == "†" for name in names):
        return ""
    mark = max(row[name]["mark"] for name in names)
    return f"{sum(row[name]['value'] for name in names) / len(names):.2f}{mark}"
