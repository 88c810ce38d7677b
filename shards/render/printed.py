"""Pages in proportional type, as printed documents have it: letters are as wide as their font makes them."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw

from shards.render.page import ADVANCE, LINE, Page, font
from shards.render.sample import Sample
from shards.render.sources import Split
from shards.render.text import QUESTION, random_prose, wrapped

# fonts that ship with matplotlib, at sizes at which about ten characters go across a tile of 112 pixels
TYPEFACES = {
    "DejaVuSans": range(18, 23),
    "DejaVuSerif": range(18, 23),
    "STIXGeneral": range(23, 28),
    "cmr10": range(21, 26),
    "cmss10": range(22, 27),
}
# TeX's fonts have other symbols in the places of these: https://ctan.org/pkg/encguide (OT1)
OTHERWISE_ENCODED = frozenset('<>"{|}_\\^~')
STAND_IN = {"cmr10": "STIXGeneral", "cmss10": "DejaVuSans"}
MARGIN = 4  # pixels beside the text; a page is shifted by up to 2
OVERHANG = 2  # pixels that a letter may stand out of its width, such as an italic f


class PrintedPage(Page):
    """A white page in a proportional font.

    Lines are as high as on any page, so that text and figures can be given places by cells, but characters are not
    held to them: names start at their cell, and figures end with their last cell.

    Args:
        columns: Width in cells.
        rows: Lines.
        rng: Chooses font, size, ink, position and noise.
    """

    def __init__(self, columns: int, rows: int, rng: np.random.Generator) -> None:
        super().__init__(columns, rows, rng)
        self.font = list(TYPEFACES)[int(rng.integers(len(TYPEFACES)))]
        self.size = int(rng.choice(TYPEFACES[self.font]))

    def runs(self, text: str) -> Iterator[tuple[str, str]]:
        """Split text into (font, characters): TeX's fonts lack some characters, which another font draws."""
        stand_in = STAND_IN.get(self.font)
        for lacking, characters in groupby(text, lambda character: character in OTHERWISE_ENCODED):
            yield (stand_in if lacking and stand_in else self.font), "".join(characters)

    def width(self, text: str) -> float:
        """Return how many pixels a text takes."""
        return sum(font(name, self.size).getlength(characters) for name, characters in self.runs(text))

    def write(self, text: str, column: float, row: int) -> None:
        """Write text at a cell; figures end with their last cell; what is wider than its cells is squeezed."""
        room = len(text) * ADVANCE
        line = self._line(text)
        if line.width > room + 2 * OVERHANG:
            line = line.resize((room + OVERHANG, LINE), Image.Resampling.BILINEAR)
        left = round(column * ADVANCE) + (room - line.width if text.isdecimal() else 0)
        self._put(line, max(0, left), row)

    def write_words(self, words: list[str], row: int, *, fill: bool) -> None:
        """Write words across a row, the spaces between them widened to the full width if `fill`."""
        if not fill or len(words) == 1:
            self._put(self._line(" ".join(words)), MARGIN - OVERHANG, row)
            return
        spare = self.columns * ADVANCE - 2 * MARGIN - sum(self.width(word) for word in words)
        left = float(MARGIN)
        for word in words:
            self._put(self._line(word), round(left) - OVERHANG, row)
            left += self.width(word) + spare / (len(words) - 1)

    def _line(self, text: str) -> Image.Image:
        """Return the ink of a text, a line high, with room for letters that overhang their width on either side."""
        line = Image.new("L", (round(self.width(text)) + 2 * OVERHANG, LINE))
        drawn, left = ImageDraw.Draw(line), float(OVERHANG)
        for name, characters in self.runs(text):
            drawn.text((left, LINE - 8), characters, font=font(name, self.size), fill=255, anchor="ls")
            left += font(name, self.size).getlength(characters)
        return line

    def _put(self, line: Image.Image, left: int, row: int) -> None:
        place = self.ink[row * LINE : (row + 1) * LINE, left : left + line.width]
        np.maximum(place, np.asarray(line)[:, : place.shape[1]], out=place)


def printed_page(
    split: Split,
    columns: int,
    rows: int,
    rng: np.random.Generator,
    *,
    filled_columns: int | None = None,
    filled_rows: int | None = None,
) -> Sample:
    """Draw prose in proportional type, ragged or justified, to be read line by line.

    Args:
        split: Which documents.
        columns: Page width in cells.
        rows: Page height in lines.
        rng: Source of every choice.
        filled_columns: Width of the lines in cells (default: the page's).
        filled_rows: Lines written (default: the page's height).
    """
    name, words, start = random_prose(split, rng)
    page = PrintedPage(columns, rows, rng)
    width = (filled_columns or columns) * ADVANCE - 2 * MARGIN
    lines = wrapped(words, start, width, filled_rows or rows, page.width)
    justified = filled_columns is None and rng.random() < 0.5
    for row, line in enumerate(lines):
        page.write_words(line.split(" "), row, fill=justified and row < len(lines) - 1)
    return Sample(page.image(), QUESTION, "\n".join(lines), task="print", source=name)
