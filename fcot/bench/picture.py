"""Draw what a bench found: bars, cut by part, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.files.results import file_to_write

COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#332288", "#ddaa77")


@dataclass(frozen=True)
class Bars:
    """One panel of bars.

    Attributes:
        title: What the bars show, with the unit.
        bars: Parts of each bar by name; bars share the names they have in common.
        marks: Text over a bar, by its name.
    """

    title: str
    bars: Mapping[str, Mapping[str, float]]
    marks: Mapping[str, str] = field(default_factory=dict)


def draw(panels: Sequence[Bars], target: Path, caption: str) -> None:
    """Write panels of bars as a picture.

    Args:
        panels: From left to right.
        target: Picture file; its suffix says the format.
        caption: Line under the panels: what was measured and where.

    Raises:
        UserError: If there is no such format, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(part for panel in panels for parts in panel.bars.values() for part in parts))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    widths = [max(3.2, 0.6 + 0.95 * len(panel.bars)) for panel in panels]
    figure = Figure(figsize=(sum(widths) + 2.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for axis, panel in zip(axes, panels, strict=True):
        for place, (name, parts) in enumerate(panel.bars.items()):
            bottom = 0.0
            for part, height in parts.items():
                axis.bar(place, height, bottom=bottom, color=colours[part], width=0.7)
                bottom += height
            axis.annotate(
                panel.marks.get(name, f"{bottom:.3g}"), (place, bottom), (0, 3), textcoords="offset points", ha="center"
            )
        axis.set_xticks(range(len(panel.bars)), panel.bars)
        axis.set_title(panel.title, fontsize=10)
        axis.margins(y=0.12 if all("\n" not in mark for mark in panel.marks.values()) else 0.2)
        axis.spines[["top", "right"]].set_visible(False)
    if any(len(parts) > 1 for panel in panels for parts in panel.bars.values()):
        from matplotlib.patches import Patch

        handles = [Patch(color=colours[name], label=name.replace("_", " ")) for name in reversed(names)]
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)
    figure.supxlabel(caption, fontsize=8, color="0.4")
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix and target.suffix[1:].lower() not in formats:
        raise UserError(f"A picture cannot be written as {target.name}.\nEnd its name in .png, .svg or .pdf.")
    with file_to_write(target, "bench.png") as file:
        figure.savefig(file, dpi=150)
