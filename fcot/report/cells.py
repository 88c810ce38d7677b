"""What the template of a report shows: pictures, and tables whose cells may hold an interval or a bar."""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

Cell = str | Mapping[str, Any] | None  # text; `interval`, `bar` or `command` with what belongs to it; nothing: a dash


@dataclass(frozen=True)
class Picture:
    """An image that is part of the page.

    Attributes:
        png: The file's bytes.
        alt: What it shows, for readers who do not see it.
        width: Width on the page in CSS pixels; None: as wide as there is room.
    """

    png: bytes
    alt: str
    width: int | None = None

    @property
    def source(self) -> str:
        """The image as a `data:` address."""
        return f"data:image/png;base64,{b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: Titles of the columns; each line of one stands on its own, those after an empty line in small type.
        rows: Cells.
        words: The first so many columns hold words and stand on the left; figures stand on the right.
        breaks: Places of the rows that start a new group.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    breaks: Collection[int] = ()


def with_interval(
    values: Mapping[str, Any] | None, *, scale: float = 1.0, decimals: int = 3, ends: int | None = None, sign: str = ""
) -> Cell:
    """Return a cell with a mean and the interval under it, None without one; an infinite end is None.

    Args:
        values: `mean`, `low` and `high`.
        scale: Factor of all three.
        decimals: Digits after the point.
        ends: Digits after the point of the ends of the interval (default: as many).
        sign: "+" to show it of positive figures, too.
    """
    if values is None:
        return None

    def figure(value: float | None, digits: int) -> str:
        return "∞" if value is None else f"{scale * value:{sign}.{digits}f}".replace("-", "−")

    low, high = (figure(values[end], decimals if ends is None else ends) for end in ("low", "high"))
    return {"value": figure(values["mean"], decimals), "interval": f"{low} \N{EN DASH} {high}"}


def with_bar(value: str, share: float) -> Cell:
    """Return a cell with a figure and a bar as long as a share of its cell."""
    return {"value": value, "bar": f"{100 * share:.1f}%"}


def png_of(image: Image.Image, *, colors: int | None = None) -> bytes:
    """Return an image as a PNG, optionally reduced to a palette: noise of scanned pages makes large files."""
    buffer = BytesIO()
    (image.convert("RGB").quantize(colors) if colors else image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
