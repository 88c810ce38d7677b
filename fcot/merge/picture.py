"""The picture of a merge: what each snapshot contributes, and how the merge methods compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

BLUE, ORANGE, GREY, PALE, INK = "#2f6f9f", "#d9722b", "#9aa0a6", "#e4e6e8", "#333333"
LONGEST_NAME = 26
NAMES = {"shapley": "Shapley", "banzhaf": "Banzhaf", "ties": "TIES", "dare": "DARE"}


def draw_merge(report: Mapping[str, Any], path: str | Path) -> None:
    """Draw a merge report as a PNG of two panels.

    Left, each snapshot's Shapley value φ and the weight w it gives; right, the scores of the base, of each
    snapshot alone and of every merge method, with the chosen one marked.

    Args:
        report: The content of `merge.json`; its fields `split`, `n` and `metric`, if given, are shown too.
        path: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = len(report["players"]) + len(report["controls"]) + 1
    # Unlike pyplot, a bare Figure leaves the user's backend and open figures alone.
    figure = Figure(figsize=(12, 1.7 + 0.32 * rows), dpi=130)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, wspace=0.04))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _draw_values(left, report)
    _draw_scores(right, report)
    figure.suptitle(_title(report), fontsize=13, fontweight="bold", x=0.012, ha="left", color=INK)
    figure.savefig(path, format="png")


def _draw_values(axes: Axes, report: Mapping[str, Any]) -> None:
    players = report["players"]
    values = [report["shapley"][player] for player in players]
    weights = report["controls"]["shapley"]["weights"]
    reach = _reach(report, values)
    colors = [BLUE if value > 0 else GREY for value in values]
    axes.barh(range(len(values)), values, height=0.6, color=colors, xerr=reach, ecolor=INK, capsize=3)
    axes.axvline(0.0, color=INK, linewidth=0.8)
    _dress(axes, [_short(player) for player in players])
    _column(axes, 58, "φ", _written(values, signed=True))
    _column(axes, 98, "w", [f"{weights[player]:.2f}" for player in players])
    axes.set_xlabel("Shapley value φ" + (", with 95 % interval" if reach else ""))
    axes.set_title("What each snapshot adds, and its weight w", fontsize=11, loc="left", color=INK)


def _reach(report: Mapping[str, Any], values: Sequence[float]) -> list[list[float]] | None:
    """Return how far the intervals of the values reach down and up; None if there are none."""
    players, intervals = report["players"], report.get("intervals", {}).get("shapley")
    if intervals:
        ends = [(intervals[player]["low"], intervals[player]["high"]) for player in players]
        pairs = [*zip(values, ends, strict=True)]
        return [
            [max(0.0, value - low) for value, (low, _) in pairs],
            [max(0.0, high - value) for value, (_, high) in pairs],
        ]
    if errors := report.get("standard_errors"):
        return [[1.96 * errors[player] for player in players]] * 2
    return None


def _draw_scores(axes: Axes, report: Mapping[str, Any]) -> None:
    utilities, players, chosen = report["utilities"], report["players"], report["chosen"]
    snapshots = {f"{_short(player)} alone": utilities[player] for player in players}
    methods = {spoken(name): control["utility"] for name, control in report["controls"].items()}
    scores = [utilities[""], *snapshots.values(), *methods.values()]
    marked = 1 + len(players) + list(report["controls"]).index(chosen)
    colors = [GREY] * (1 + len(players)) + [BLUE] * len(methods)
    colors[marked] = ORANGE
    sizes = [110 if place == marked else 55 for place in range(len(scores))]
    axes.axvline(utilities[""], color=GREY, linewidth=0.9, linestyle=":")
    axes.axhline(len(players) + 0.5, color=PALE, linewidth=1.5)
    axes.scatter(scores, range(len(scores)), s=sizes, c=colors, zorder=3)
    labels = ["base", *snapshots, *methods]
    labels[marked] += " (chosen)"
    _dress(axes, labels)
    texts = _column(axes, 56, "score", _written(scores))
    for text in (axes.get_yticklabels()[marked], texts[marked]):
        text.set(color=ORANGE, fontweight="bold")
    axes.set_xlabel(f"{report.get('metric', 'utility')} (higher is better)")
    axes.set_title("Base and snapshots, then merge methods", fontsize=11, loc="left", color=INK)


def _dress(axes: Axes, labels: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_yticks(range(len(labels)), labels, fontsize=10)
    axes.set_ylim(len(labels) - 0.4, -0.6)  # first row on top
    axes.margins(x=0.06)
    axes.tick_params(length=0, colors=INK)
    axes.grid(axis="x", color=PALE)
    axes.xaxis.set_major_locator(MaxNLocator(5))  # close scores have long labels, which must not overlap
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _column(axes: Axes, offset: int, header: str, texts: Sequence[str]) -> list[Annotation]:
    """Write one text per row under a header; they end `offset` points to the right of the panel."""
    axes.annotate(
        header,
        (1, 1),
        (offset, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        color=GREY,
    )
    return [
        axes.annotate(
            text,
            (1, place),
            (offset, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            color=INK,
        )
        for place, text in enumerate(texts)
    ]


def _written(values: Sequence[float], *, signed: bool = False) -> list[str]:
    decimals = 4 if max(abs(value) for value in values) < 10 else 2
    return [f"{value:{'+' if signed else ''}.{decimals}f}" for value in values]


def _title(report: Mapping[str, Any]) -> str:
    parts = [f"Merge of {len(report['players'])} snapshots"]
    parts.append(f"split {report['split']}" if "split" in report else "split not named")
    parts.append(f"n = {report['n']}" if "n" in report else "n not given")
    parts.append(f"seed {report['seed']}")
    return " · ".join(parts)


def spoken(name: str) -> str:
    """Return a merge method's name as a text has it."""
    return NAMES.get(name, name.replace("_", " "))


def _short(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
