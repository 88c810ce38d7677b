"""The picture of looks: pages with the heat of each model's answer laid over them, models side by side."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fcot.look.heat import Agreement, Heat, enlarged, full_color, overlay
from fcot.look.look import Look
from fcot.merge.picture import GREY, INK
from fcot.report.plots import new_figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 10.0  # inches; shown 1000 pixels wide, a picture has 100 of them an inch
GAP, LINE = 0.15, 0.18  # inches: between panels, and from one line of text to the next
CHARACTERS = 13  # of a caption, an inch
MOST_LINES = 5  # of an answer
TALLEST = 1.4  # height of a page in widths of its panel; a taller page is drawn narrower
BESIDE = 0.24  # width of a thumbnail in widths of a panel
THUMBNAIL = 224  # pixels of its side as drawn


@dataclass(frozen=True)
class Seen:
    """What one model made of a page.

    Attributes:
        look: Its answer.
        heat: Where it looked.
        agreement: With the first model; None for the first.
    """

    look: Look
    heat: Heat
    agreement: Agreement | None


@dataclass(frozen=True)
class PageLooks:
    """What several models made of a page.

    Attributes:
        name: Name of the page.
        page: The page.
        question: What was asked.
        seen: By each model, in order.
    """

    name: str
    page: Image.Image
    question: str
    seen: Sequence[Seen]


def draw_looks(models: Sequence[str], pages: Sequence[PageLooks]) -> bytes:
    """Draw pages from top to bottom, models side by side, as a PNG.

    Args:
        models: Names of the models.
        pages: What they made of each page.
    """
    panel = (WIDTH - GAP * (len(models) + 1)) / len(models)
    texts = [[caption(seen, int(panel * CHARACTERS)) for seen in page.seen] for page in pages]
    sizes = [size_in(page.page.size, panel) for page in pages]
    below = [LINE * (0.8 + max(text.count("\n") + 1 for text in its)) for its in texts]
    heights = [size[1] + 3.2 * LINE + under for size, under in zip(sizes, below, strict=True)]
    top = sum(heights) + GAP
    figure = new_figure(WIDTH, top)
    figure.set_layout_engine("none")  # everything has its place
    for page, its, size, height in zip(pages, texts, sizes, heights, strict=True):
        write(figure, GAP, top - LINE, f"{page.name}:  {shortened(page.question, 100)}", bold=True)
        hottest = full_color([seen.heat for seen in page.seen])
        for number, (model, seen, text) in enumerate(zip(models, page.seen, its, strict=True)):
            left, bottom = GAP + number * (panel + GAP), top - 3.2 * LINE - size[1]
            write(figure, left, top - 2.6 * LINE, shortened(model, int(panel * CHARACTERS)))
            draw_heat(figure, page.page, seen.heat, (left, bottom, *size), hottest, panel * BESIDE)
            write(figure, left, bottom - LINE, text)
        top -= height
    return png(figure)


def size_in(page: tuple[int, int], panel: float) -> tuple[float, float]:
    """Return width and height of a page in a panel, beside which its thumbnail has room, in inches."""
    most = panel * (1 - BESIDE) - GAP / 2
    shape = page[1] / page[0]
    width = most * min(1.0, TALLEST / shape)
    return width, width * shape


def draw_heat(
    figure: "Figure",
    page: Image.Image,
    heat: Heat,
    place: tuple[float, float, float, float],
    hottest: float,
    beside: float,
) -> None:
    """Draw a page under its heat, and beside it the thumbnail under its own.

    Args:
        figure: Where to draw.
        page: The page.
        heat: The heat.
        place: Left, bottom, width and height of the page in inches.
        hottest: Heat that has the full colour.
        beside: Width of the thumbnail in inches.
    """
    left, bottom, width, height = place
    axes = figure.add_axes(shares(figure, place))
    axes.imshow(np.asarray(overlay(page, heat.over_page(), hottest)), aspect="auto", interpolation="antialiased")
    shown = [axes]
    if heat.thumbnail is not None:
        small = min(beside, height)  # the model sees the whole page squeezed into a square
        corner = (left + width + GAP / 2, bottom + height - small, small, small)
        axes = figure.add_axes(shares(figure, corner))
        squeezed = page.resize((THUMBNAIL, THUMBNAIL))
        axes.imshow(np.asarray(overlay(squeezed, enlarged(heat.thumbnail, squeezed.size), hottest)))
        write(figure, corner[0], corner[1] - LINE * 0.9, "thumbnail", color=GREY)
        shown.append(axes)
    for each in shown:
        each.set(xticks=[], yticks=[])
        for spine in each.spines.values():
            spine.set(color=GREY, linewidth=0.8)


def shares(figure: "Figure", place: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return a place in inches as shares of a figure's width and height."""
    across, up = figure.get_size_inches()
    return place[0] / across, place[1] / up, place[2] / across, place[3] / up


def write(figure: "Figure", left: float, top: float, text: str, *, bold: bool = False, color: str = INK) -> None:
    """Write text whose first line begins at a place in inches; a dollar sign is a dollar sign."""
    x, y, _, _ = shares(figure, (left, top + LINE * 0.8, 0, 0))
    weight = "bold" if bold else "normal"
    figure.text(x, y, text, va="top", fontsize=9.5, color=color, weight=weight, linespacing=1.3, parse_math=False)


def caption(seen: Seen, characters: int) -> str:
    """Return what stands under a panel: the answer, and figures about where the model looked.

    Args:
        seen: What a model made of a page.
        characters: Longest line.
    """
    figures = [f"{float(seen.look.mass.mean()):.0%} of the attention on visual tokens"]
    if seen.heat.thumbnail is not None:
        figures.append(f"{seen.heat.thumbnail_share:.0%} of that on the thumbnail")
    if seen.agreement is not None:
        correlation = seen.agreement.correlation
        said = "no correlation" if correlation is None else f"correlation {correlation:.2f}"
        figures.append(f"with the first model: {said}, {seen.agreement.overlap:.0%} of the hottest tenth shared")
    lines = seen.look.answer.splitlines()
    spoken = " \N{DOWNWARDS ARROW WITH CORNER LEFTWARDS} ".join(lines)
    spoken = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in spoken)
    answer = textwrap.wrap(f"\N{LEFT DOUBLE QUOTATION MARK}{spoken}\N{RIGHT DOUBLE QUOTATION MARK}", characters)
    if len(answer) > MOST_LINES:
        answer = [*answer[: MOST_LINES - 1], f"{answer[MOST_LINES - 1][: characters - 2]} …"]
    return "\n".join([*answer, *textwrap.wrap("; ".join(figures), characters)])


def shortened(text: str, characters: int) -> str:
    """Return a text on one line, its end cut off if it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"
