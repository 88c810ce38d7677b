"""Charts of real figures, drawn bars by matplotlib: read as a python dict, or asked about."""

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from shards.render.page import ADVANCE, LINE, Page
from shards.render.sample import Sample
from shards.render.sources import Split, Table
from shards.render.table import some_rows

QUESTION = "Chart to dict."
COLORS = ("0.85", "0.75", "#9ecae1", "#fdae6b", "#a1d99b", "#dadaeb")


def as_dict(table: Table) -> str:
    """Return a chart's figures as the text of a python dict."""
    return "{" + ", ".join(f"'{name}': {value}" for name, value in table.rows) + "}"


@cache
def _axes(width: int, height: int) -> Any:
    """Return bare axes of a size in pixels, kept for the next chart of that size; making them is the slow part."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def draw_chart(
    table: Table, columns: int, rows: int, rng: np.random.Generator, paper: type[Page] = Page
) -> Image.Image:
    """Draw horizontal bars, one line each: name, bar, figure.

    Args:
        table: Name and figure of each bar.
        columns: Page width in characters.
        rows: Page height in lines, one bar a line.
        rng: Chooses font, size, colour, position and noise.
        paper: Kind of page.
    """
    width, height, start = columns * ADVANCE, rows * LINE, 11 * ADVANCE
    values = np.array([int(value) for _, value in table.rows], dtype=np.float64)
    lengths = np.maximum(2.0, (width - start - 5 * ADVANCE) * values / max(values.max(), 1.0))
    axes = _axes(width, height)
    lines = (np.arange(len(values)) + 0.5) * LINE
    bars = axes.barh(lines, lengths, left=start, height=LINE * 0.7, color=COLORS[int(rng.integers(len(COLORS)))])
    axis = axes.axvline(start, color="0.4", linewidth=0.8)
    axes.figure.canvas.draw()
    page = paper(columns, rows, rng)
    page.background = np.asarray(axes.figure.canvas.buffer_rgba())[..., :3].copy()
    bars.remove()
    axis.remove()
    for row, (name, value) in enumerate(table.rows):
        page.write(name, 0, row)
        page.write(value, 12 + int(lengths[row] // ADVANCE), row)  # in the first free cell after the bar
    return page.image()


def chart_table(split: Split, rng: np.random.Generator) -> tuple[Table, int, int]:
    """Choose the figures of a chart and its page's columns and rows."""
    columns, rows = ((24, 4), (24, 8))[int(rng.choice(2, p=(0.6, 0.4)))]
    bars = int(rng.integers(3, 5)) if rows == 4 else int(rng.integers(4, 7))
    return some_rows(split, bars, 2, rng), columns, rows


def chart_page(split: Split, rng: np.random.Generator, paper: type[Page] = Page) -> Sample:
    """Draw a bar chart to be read as a python dict, on a kind of page."""
    table, columns, rows = chart_table(split, rng)
    image = draw_chart(table, columns, rows, rng, paper)
    return Sample(image, QUESTION, as_dict(table), task="chart", source=table.name)
