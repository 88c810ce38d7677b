"""The verb `bench device`: in a few minutes, what only an accelerator can show."""

import json
import time
from pathlib import Path
from typing import Any

from fcot.bench.device_cells import ROOT, SIZES, Cell, cells
from fcot.bench.device_runs import context, run
from fcot.bench.device_tables import as_markdown, panels, tables
from fcot.bench.output import publish
from fcot.environment import environment
from fcot.errors import UserError, nearest

RESULTS = "device.json"
LEAST = 8.0  # seconds; a cell is not begun with less


def device(
    output: Path = Path("runs/device"),
    minutes: float = 8.0,
    size: str = "full",
    only: list[str] | None = None,
    plot: bool = True,
) -> None:
    """Spend a few minutes on what only a device can show: correctness, steps, answers, kernels, throughput.

    Cells run in order of worth, each in a process of its own with a limit, and the results are written whenever one
    ends: killed at any moment, OUTPUT/device.json is whole for the cells that ran. Weights are random, shapes real;
    nothing is downloaded.

    Args:
        output: Folder for device.json, device.md and device.png.
        minutes: Time for all cells; one that no time is left for is not run.
        size: full measures models of 2B and 8B and wants an accelerator; tiny runs the same commands on a tiny model.
        only: Names of cells to run, or beginnings of them (default: all).
        plot: Draw device.png.

    Raises:
        UserError: If there is no such size or cell.
    """
    begun = time.monotonic()
    if size not in SIZES:
        raise UserError(f"There is no size {size!r}.{nearest(size, SIZES)}\nSizes are {', '.join(SIZES)}.")
    machine = environment()
    there = machine["accelerator"] != "none"
    if size == "full" and not there:
        raise UserError(
            "This machine has no accelerator that torch can use, and models of 2B and 8B need one.\n"
            "Run --size tiny here; see fcot doctor for what was found."
        )
    chosen = chosen_cells(cells(size, tests_folder()), only)
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "bench": "device",
        "size": size,
        "minutes": minutes,
        "device": "accelerator" if there else "cpu",
        "environment": machine,
        "note": "" if there else "This machine has no accelerator: all of this ran on its CPU.",
        "cells": [],
    }
    processes = context()
    for cell in chosen:
        left = 60 * minutes - (time.monotonic() - begun)
        if cell.accelerator and not there:
            record = not_run(cell, "needs an accelerator, and there is none")
        elif left < LEAST:
            record = not_run(cell, "no time was left")
        else:
            record = run(cell, processes, output, min(cell.seconds, left))
        found["cells"].append(record)
        found["seconds"] = round(time.monotonic() - begun, 1)
        save(output, found)
        print(line(record), flush=True)
    (output / "device.md").write_text(as_markdown(found), encoding="utf-8")
    drawn = panels(found)
    publish(
        found,
        tables(found),
        None,
        [found["note"]] if found["note"] else [],
        plot=picture(output, plot, drawn),
        panels=drawn,
    )
    print(f"{output / RESULTS}, {output / 'device.md'}")


def chosen_cells(known: list[Cell], only: list[str] | None) -> list[Cell]:
    """Return the cells whose names begin with one of those given, all if none is.

    Raises:
        UserError: If a name fits none.
    """
    for name in only or []:
        if not any(cell.name.startswith(name) for cell in known):
            names = [cell.name for cell in known]
            raise UserError(f"There is no cell {name!r}.{nearest(name, names)}\nCells are {', '.join(names)}.")
    return [cell for cell in known if not only or any(cell.name.startswith(name) for name in only)]


def tests_folder() -> Path | None:
    """Return this project's tests if fcot runs from a checkout."""
    folder = ROOT / "tests"
    return folder if (folder / "test_layers.py").is_file() else None


def not_run(cell: Cell, reason: str) -> dict[str, Any]:
    """Return the record of a cell that did not run."""
    return {"name": cell.name, "command": cell.command, "status": "not run", "reason": reason, "found": None}


def save(output: Path, found: dict[str, Any]) -> None:
    """Replace the results at once, so that a reader never sees a part of them."""
    new = output / f"{RESULTS}.new"
    new.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    new.replace(output / RESULTS)


def picture(output: Path, plot: bool, drawn: list[Any]) -> Path | None:
    """Return the picture's file, None if there is nothing to draw."""
    return output / "device.png" if plot and drawn else None


def line(record: dict[str, Any]) -> str:
    """Return what happened to a cell, with the end of its output if it failed."""
    said = f"{record['name']}: {record['status']}"
    said += f", {record['reason']}" if "reason" in record else f" after {record['seconds']} s"
    return said if record["status"] in ("done", "not run") else f"{said}\n{record['output'][-1500:]}"
