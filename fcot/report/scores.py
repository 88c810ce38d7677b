"""The scores as a picture and tables."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fcot.report.markup import bounds, figure, picture, table, with_interval
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


def scores_section(rows: Rows) -> str:
    """Return the section: a plot, the comparison, the scores of each task."""
    line = escape(provenance(rows))
    plot = picture(draw_scores(rows), "Mean score of each model with its 95 % interval", width=860)
    explained = "".join(
        f"<dt>{escape(label)}</dt><dd>{escape(MEANINGS[label])}</dd>"
        for label in dict.fromkeys(row["label"] for row in rows)
        if label in MEANINGS
    )
    return (
        f"<dl>{explained}</dl>"
        + figure(plot, f"Mean over tasks. The dotted line is the teacher. {line}")
        + figure(
            comparison(rows),
            f"Means over tasks, and each model against teacher, start and control. {line}",
        )
        + figure(by_task(rows), f"The same by task, with the metric that counts. {line}")
    )


def comparison(rows: Rows) -> str:
    """Return the table of means and paired comparisons."""
    head = ["model", "ratio", "mean score", "% of teacher", "difference to<br>pooled start", "% of control",
            "visual tokens<br>a page"]  # fmt: skip
    used = [column for column, field in ((3, "vs_teacher"), (4, "vs_start"), (5, "vs_control"))
            if not any(field in row for row in rows)]  # fmt: skip
    lines = []
    for row in rows:
        mean = row["scores"]["mean"]
        cells = [
            escape(row["label"]),
            str(row["ratio"]),
            with_interval(f"{mean['mean']:.3f}", bounds(mean)),
            compared(row.get("vs_teacher"), scale=100, decimals=1),
            compared(row.get("vs_start"), decimals=3, sign="+"),
            compared(row.get("vs_control"), scale=100, decimals=1),
            f"{row['visual_tokens']:.1f}",
        ]
        lines.append([cell for place, cell in enumerate(cells) if place not in used])
    return table([cell for place, cell in enumerate(head) if place not in used], lines, marks=breaks(rows))


def compared(interval: Mapping[str, Any] | None, *, scale: float = 1.0, decimals: int, sign: str = "") -> str:
    """Return a cell of a comparison, a dash where there is none."""
    if interval is None:
        return "&ndash;"
    value = f"{scale * interval['mean']:{sign}.{decimals}f}".replace("-", "−")
    return with_interval(value, bounds(interval, scale, decimals, sign))


def by_task(rows: Rows) -> str:
    """Return the table of scores by task."""
    tasks = tasks_of(rows)
    metrics = {task: score["metric"] for row in rows for task, score in row["scores"].items()}
    counts = {task: score["n"] for row in rows for task, score in row["scores"].items()}
    head = ["model", "ratio"]
    for task in tasks:
        metric = escape(metrics[task].replace("_", " ")).replace(" ", "<br>")
        head.append(f"{escape(task)}<small>{metric}</small><small>n = {counts[task]}</small>")
    lines = [
        [
            escape(row["label"]),
            str(row["ratio"]),
            *(
                with_interval(f"{score['mean']:.3f}", bounds(score, decimals=2)) if score else "&ndash;"
                for score in (row["scores"].get(task) for task in tasks)
            ),
        ]
        for row in rows
    ]
    return table(head, lines, marks=breaks(rows))


def breaks(rows: Rows) -> dict[int, str]:
    """Return the mark of rows that start a new ratio."""
    return {place: "new" for place in range(1, len(rows)) if rows[place]["ratio"] != rows[place - 1]["ratio"]}
