"""The scores as a picture and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcot.report.cells import Cell, Picture, Table, with_interval
from fcot.report.plots import draw_scores
from fcot.report.rows import provenance, tasks_of

Rows = Sequence[Mapping[str, Any]]

MEANINGS = {
    "Teacher": "the model to be compressed, as it came, with all its visual tokens",
    "Teacher, post-trained": "the control: all visual tokens and the same post-training as the student, "
    "so that what training gives is not mistaken for what compression costs",
    "Pooled start": "neighbouring visual tokens averaged, nothing trained yet",
    "Re-aligned": "compressor and projector trained to speak as the frozen teacher does; all else untouched",
    "Post-trained": "all parameters trained on reading and questions; the last snapshot",
    "Merged": "snapshots of that training mixed into one model, in the way that is marked under “The merge”",
}


def scores_section(rows: Rows) -> dict[str, Any]:
    """Return what the section shows: a plot, the comparison, the scores of each task."""
    labels = dict.fromkeys(row["label"] for row in rows)
    return {
        "provenance": provenance(rows),
        "meanings": [(label, MEANINGS[label]) for label in labels if label in MEANINGS],
        "plot": Picture(draw_scores(rows), "Mean score of each model with its 95 % interval", width=860),
        "comparison": comparison(rows),
        "by_task": by_task(rows),
    }


def comparison(rows: Rows) -> Table:
    """Return the table of means and paired comparisons; a comparison that no row has is left out."""
    head = ["model", "ratio", "mean score", "% of teacher", "difference to\npooled start", "% of control",
            "visual tokens\na page"]  # fmt: skip
    unused = [column for column, field in ((3, "vs_teacher"), (4, "vs_start"), (5, "vs_control"))
              if not any(field in row for row in rows)]  # fmt: skip
    lines: list[list[Cell]] = [
        [
            row["label"],
            str(row["ratio"]),
            with_interval(row["scores"]["mean"]),
            with_interval(row.get("vs_teacher"), scale=100, decimals=1),
            with_interval(row.get("vs_start"), sign="+"),
            with_interval(row.get("vs_control"), scale=100, decimals=1),
            f"{row['visual_tokens']:.1f}",
        ]
        for row in rows
    ]
    kept = [column for column in range(len(head)) if column not in unused]
    shown = [[cells[column] for column in kept] for cells in lines]
    return Table([head[column] for column in kept], shown, breaks=breaks(rows))


def by_task(rows: Rows) -> Table:
    """Return the table of scores by task."""
    tasks = tasks_of(rows)
    known = {task: score for row in rows for task, score in row["scores"].items()}
    metrics = {task: known[task]["metric"].replace("_", "\n").replace(" ", "\n") for task in tasks}
    head = [f"{task}\n\n{metrics[task]}\n\nn = {known[task]['n']}" for task in tasks]
    lines: list[list[Cell]] = [
        [
            row["label"],
            str(row["ratio"]),
            *(with_interval(row["scores"].get(task), ends=2) for task in tasks),
        ]
        for row in rows
    ]
    return Table(["model", "ratio", *head], lines, breaks=breaks(rows))


def breaks(rows: Rows) -> list[int]:
    """Return the places of rows that start a new ratio."""
    return [place for place in range(1, len(rows)) if rows[place]["ratio"] != rows[place - 1]["ratio"]]
