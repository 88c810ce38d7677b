"""A picture of results: differences to the first model, benchmark by benchmark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")


def draw(found: Mapping[str, Any], target: Path) -> None:
    """Draw each model's score by benchmark, with intervals, or its difference to the first if there are several.

    Args:
        found: The result.
        target: A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {
        name: column for name, column in found["columns"].items() if name in (found["average"] or {}).get("columns", ())
    }
    if not shown:
        return
    pairs = found["pairs"]
    figure = Figure(figsize=(7.2, 0.6 + 0.45 * len(shown) * max(1, len(pairs)) ** 0.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    first = found["models"][0]["label"]
    series: list[tuple[str, dict[str, Any]]] = [(each["label"], each["columns"]) for each in pairs]
    if not series:
        series = [(first, {name: column["models"][first] for name, column in shown.items()})]
    step = 0.7 / len(series)
    for number, (label, values) in enumerate(series):
        for place, name in enumerate(shown):
            each = values[name]
            axes.errorbar(
                each["value"],
                place + (number - (len(series) - 1) / 2) * step,
                xerr=[[each["value"] - each["low"]], [each["high"] - each["value"]]],
                fmt="o",
                color=COLOURS[number % len(COLOURS)],
                capsize=3,
                label=label if place == 0 else None,
            )
    axes.set_yticks(range(len(shown)), [column["title"] for column in shown.values()])
    axes.invert_yaxis()
    if pairs:
        axes.axvline(0, color="#777777", linewidth=1)
    axes.set_xlabel(f"points above {first}, with 95 % intervals" if pairs else "score, with 95 % intervals")
    axes.grid(axis="x", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1 or pairs:
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))  # hides no interval
    figure.savefig(target)
