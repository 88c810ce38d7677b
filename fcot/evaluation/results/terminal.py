"""The result on a terminal, also one of 80 columns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fcot.evaluation.results.published_table import published_rows
from fcot.evaluation.results.table import caption, cell, measured, signed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LABEL, FIGURE = 36, 10  # widths of a published table's first column and of the others, with the gap


def print_result(found: Mapping[str, Any]) -> None:
    """Print the table with differences to the first model, published scores and notes."""
    from rich.console import Console

    screen = Console()
    _print_measured(screen, found)
    _print_published(screen, found)
    for note in found["notes"]:
        screen.print(f"Note: {note}", markup=False, soft_wrap=True)


def _print_measured(screen: "Console", found: Mapping[str, Any]) -> None:
    """Print a row for each benchmark and a column for each model."""
    from rich.markup import escape

    drawn = _table(escape(caption(found)))
    models = [model["label"] for model in found["models"]]
    drawn.add_column("", overflow="fold")
    for label in models:
        drawn.add_column(escape(label), justify="right", overflow="fold")
    differences = {pair["label"]: pair["columns"] for pair in found["pairs"]}
    for name, column in found["columns"].items():
        cells = []
        for label in models:
            entry = column["models"].get(label)
            against = differences.get(label, {}).get(name)
            text = escape(cell(entry, n=column["n"]).replace(" [", "\n[", 1)) if entry else ""
            cells.append(text + (f"\n[dim]{escape(signed(against))}[/dim]" if against else ""))
        drawn.add_row(escape(f"{column['title']}\n{measured(column)}"), *cells)
    if found["average"]:
        values, against = found["average"]["intervals"], "average"
        cells = [
            escape(cell(values[label], decimals=2).replace(" [", "\n[", 1))
            + (f"\n[dim]{escape(signed(its[against]))}[/dim]" if against in (its := differences.get(label, {})) else "")
            for label in models
        ]
        drawn.add_row(f"average of {len(found['average']['columns'])}", *cells)
    drawn.add_row("visual tokens", *(f"{model['visual_tokens']:.1f}" for model in found["models"]))
    screen.print(drawn)
    if found["pairs"]:
        screen.print(f"[dim]Third line: difference to {escape(models[0])}, in pairs.[/dim]")


def _print_published(screen: "Console", found: Mapping[str, Any]) -> None:
    """Print published scores, as many columns beside each other as the screen has room for."""
    from rich.markup import escape

    head, rows, notes = published_rows(found)
    if not rows:
        return
    most = max(2, (screen.width - LABEL) // FIGURE)
    for start in range(1, len(head), most):
        drawn = _table("Published" if start == 1 else "")
        drawn.add_column("", overflow="fold")
        for title in head[start : start + most]:
            drawn.add_column(escape(title), justify="right", overflow="fold")
        for row in rows:
            if any(row[start : start + most]):
                drawn.add_row(escape(row[0]), *row[start : start + most])
        screen.print(drawn)
    screen.print("; ".join(notes), markup=False)


def _table(title: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
