"""The pieces of HTML that a report is made of."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image


def picture(png: bytes, alt: str, *, width: int | None = None) -> str:
    """Return an image that is part of the page.

    Args:
        png: The file's bytes.
        alt: What it shows, for readers who do not see it.
        width: Width on the page in CSS pixels (default: as wide as there is room).
    """
    size = f' width="{width}"' if width else ""
    return f'<img src="data:image/png;base64,{b64encode(png).decode()}" alt="{escape(alt)}"{size}>'


def figure(content: str, caption: str) -> str:
    """Return a figure; the caption is HTML."""
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1, marks: Mapping[int, str] = {}) -> str:
    """Return a table.

    Args:
        head: Titles of the columns, HTML.
        rows: Cells, HTML.
        words: The first so many columns hold words and stand on the left; figures stand on the right.
        marks: CSS class of a row by its place.
    """

    def line(cells: Sequence[str], kind: str, place: int = -1) -> str:
        name = f' class="{marks[place]}"' if place in marks else ""
        written = "".join(
            f'<{tag} class="{"word" if column < words else "figure"}"{scope}>{cell}</{tag}>'
            for column, cell in enumerate(cells)
            for tag, scope in [cell_tag(kind, column)]
        )
        return f"<tr{name}>{written}</tr>"

    body = "".join(line(cells, "td", place) for place, cells in enumerate(rows))
    return f'<div class="wide"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def cell_tag(kind: str, column: int) -> tuple[str, str]:
    """Return a cell's tag and scope: titles of columns, titles of rows, figures."""
    if kind == "th":
        return "th", ' scope="col"'
    return ("th", ' scope="row"') if column == 0 else ("td", "")


def with_interval(mean: str, interval: str) -> str:
    """Return a figure with its interval in small type under it."""
    return f"{mean}<small>{interval}</small>"


def with_bar(value: str, share: float) -> str:
    """Return a figure and a bar as long as a share of its cell."""
    return f'<span class="value">{value}</span><span class="bar"><span style="width:{100 * share:.1f}%"></span></span>'


def bounds(values: Mapping[str, Any], scale: float = 1.0, decimals: int = 3, sign: str = "") -> str:
    """Return "0.880 &ndash; 0.941" for the ends of an interval; an infinite one is None."""
    ends = ("∞" if values[end] is None else f"{scale * values[end]:{sign}.{decimals}f}" for end in ("low", "high"))
    return " &ndash; ".join(ends).replace("-", "−")


def absent(sentence: str) -> str:
    """Return a sentence about something that is not there."""
    return f'<p class="absent">{escape(sentence)}</p>'


def png_of(image: Image.Image, *, colors: int | None = None) -> bytes:
    """Return an image as a PNG, optionally reduced to a palette: noise of scanned pages makes large files."""
    buffer = BytesIO()
    (image.convert("RGB").quantize(colors) if colors else image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
