"""Show what a bench found: tables on the terminal, JSON for programs, both with the machine it was found on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcot.bench.picture import Bars, draw
from fcot.files.results import write_or_print


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        title: What was measured.
        columns: Heads of the columns; the first is the rows' name.
        rows: Cells, already text.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def publish(
    found: Mapping[str, Any],
    tables: Sequence[Table],
    target: str | None,
    notes: Sequence[str] = (),
    *,
    plot: Path | None = None,
    panels: Sequence[Bars] = (),
) -> None:
    """Print tables, and write what was found as JSON and as a picture.

    Args:
        found: Results with a "device"; the software and the machine are added.
        tables: The same for the terminal.
        target: JSON file, "-" for the standard output (tables then go to standard error), None for no JSON.
        notes: Sentences under the tables.
        plot: Picture file, None for no picture.
        panels: What the picture shows.

    Raises:
        UserError: If the picture or the JSON file cannot be written.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn

    from fcot.environment import environment

    machine = environment()
    screen = Console(stderr=target == "-")
    screen = screen if screen.is_terminal else Console(stderr=target == "-", width=140)
    for table in tables:
        drawn = Drawn(
            title=table.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title_justify="left"
        )
        for number, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            drawn.add_row(*row)
        screen.print(drawn)
    device = found["device"]
    name = machine["accelerator"] if device.split(":")[0] not in ("cpu", "meta") else machine["processor"]
    where = "counted on the meta device, nothing was run" if device == "meta" else f"measured on {device} ({name})"
    software = f"{where}; torch {machine['torch']}, transformers {machine['transformers']}"
    for line in (*notes, software):
        screen.print(line, style="dim", soft_wrap=True)
    if plot is not None:
        draw(panels, plot, f"{tables[0].title}\n{software}")
    if target is None:
        return
    write_or_print(json.dumps({**found, "environment": machine}, indent=1), target)


def keep(found: Mapping[str, Any], target: str | None) -> None:
    """Write what was found so far to the JSON file that `publish` will write, if it is to."""
    if target not in (None, "-"):
        write_or_print(json.dumps(found, indent=1), target)


def gigabytes(size: float) -> str:
    """Return "3.21 GB" for a number of bytes."""
    return f"{size / 1e9:,.2f} GB"


def flop_unit(total: float) -> tuple[str, float]:
    """Return the unit that suits a total in TFLOP, and how many of it are one TFLOP."""
    return ("TFLOP", 1.0) if total >= 0.1 else ("GFLOP", 1000.0)
