"""The plots of a report: scores with their intervals, curves of trainings."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from fcot.merge.picture import BLUE, GREY, INK, ORANGE, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN = "#4b8b57"
SMOOTHED_FROM = 40  # points of a curve; fewer are drawn as they are

Curve = Sequence[tuple[int, float]]  # (step, value)


def color_of(ratio: int | None) -> str:
    """Return the colour of a ratio, the same in every plot."""
    return {1: INK, 2: BLUE, 4: ORANGE, None: GREY}.get(ratio, GREEN)


def new_figure(width: float, height: float) -> "Figure":
    """Return a figure of a size in inches, independent of pyplot's state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=180, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: "Figure") -> bytes:
    """Return a figure as a PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def draw_scores(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw each model's mean score with its interval, one line each, the teacher's marked through all lines."""
    figure = new_figure(8.6, 0.75 + 0.31 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        mean, color = row["scores"]["mean"], color_of(row["ratio"])
        axes.plot([mean["low"], mean["high"]], [place, place], color=color, linewidth=2.2, solid_capstyle="round")
        axes.plot(mean["mean"], place, "o", color=color, markersize=7)
    teacher = next((row for row in rows if row["label"] == "Teacher"), None)
    if teacher:
        axes.axvline(teacher["scores"]["mean"]["mean"], color=GREY, linewidth=0.9, linestyle=":", zorder=0)
    labels = [f"{row['label']}, ratio {row['ratio']}" if row["ratio"] > 1 else row["label"] for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=10)
    axes.set_ylim(len(rows) - 0.4, -0.6)  # first row on top
    axes.set_xlabel("mean score over tasks, with 95 % interval (higher is better)", fontsize=9)
    dress(axes)
    axes.spines["left"].set_visible(False)
    return png(figure)


def draw_curves(panels: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> bytes:
    """Draw curves of trainings.

    Args:
        panels: By title, by name of a curve: `ratio`, `train` and `val` (each a `Curve`, perhaps empty).
    """
    figure = new_figure(3.05 * max(2, len(panels)), 2.75)
    rows = figure.subplots(1, len(panels), squeeze=False)
    for axes, (title, curves) in zip(rows[0], panels.items(), strict=True):
        for name, curve in curves.items():
            color = color_of(curve["ratio"])
            draw_curve(axes, curve["train"], color, name)
            if curve["val"]:
                axes.plot(*zip(*curve["val"], strict=True), "o", color=color, markersize=4.5, markerfacecolor="white")
        axes.set_title(title, fontsize=10, loc="left", color=INK)
        axes.set_xlabel("step", fontsize=9)
        axes.set_ylim(*limits(curves.values()))
        dress(axes)
    rows[0][-1].legend(fontsize=8.5, frameon=False)
    return png(figure)


def draw_curve(axes: "Axes", curve: Curve, color: str, label: str) -> None:
    """Draw a curve, and if it has many points a moving average over it."""
    if not curve:
        return
    steps, values = (np.asarray(column, dtype=np.float64) for column in zip(*curve, strict=True))
    smooth = len(curve) >= SMOOTHED_FROM
    axes.plot(steps, values, color=color, linewidth=1.0, alpha=0.25 if smooth else 1.0, label=None if smooth else label)
    if smooth:
        axes.plot(*moving_average(steps, values, len(curve) // 20), color=color, linewidth=1.8, label=label)


def moving_average(steps: np.ndarray, values: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Average each value with those up to `reach` places before and after it; steps stay as they are."""
    places = np.arange(len(values))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach, len(values) - 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return steps, (sums[last + 1] - sums[first]) / (last + 1 - first)


def limits(curves: Any) -> tuple[float, float]:
    """Return the range of an axis for all but the highest 1 % of values: losses of the first steps are far higher."""
    values = [value for curve in curves for part in ("train", "val") for _, value in curve[part]]
    low, high = min(values), float(np.quantile(values, 0.99))
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def dress(axes: "Axes") -> None:
    """Give axes the look of the report."""
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.tick_params(axis="y", labelsize=9.5)
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
