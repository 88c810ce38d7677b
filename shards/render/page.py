"""Draw characters on a page whose size is a whole number of tiles."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ADVANCE, LINE = 14, 28  # pixels of a character cell: about two characters a visual token, as on real pages

FONTS = (
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "cmtt10",
    "DejaVuSerif",
    "DejaVuSans",
)
SIZES = (19, 20, 21, 22, 23)


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font that ships with matplotlib, at a size in pixels."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


@cache
def glyph(name: str, size: int, character: str) -> np.ndarray:
    """Return one character's ink, uint8 `[LINE, ADVANCE]`, squeezed if it is wider than its cell."""
    face = font(name, size)
    width = max(1, round(face.getlength(character)))
    cell = Image.new("L", (max(width, ADVANCE), LINE))
    ImageDraw.Draw(cell).text(((cell.width - width) / 2, LINE - 8), character, font=face, fill=255, anchor="ls")
    if cell.width > ADVANCE:
        cell = cell.resize((ADVANCE, LINE), Image.Resampling.BILINEAR)
    return np.asarray(cell)


class Page:
    """A white page of character cells.

    Args:
        columns: Characters across; a tile of 112 pixels holds 8.
        rows: Lines; a tile holds 4.
        rng: Chooses font, size, ink, position and noise.
        plain: One font and size, no noise: the first pages a reader learns from.
    """

    def __init__(self, columns: int, rows: int, rng: np.random.Generator, *, plain: bool = False) -> None:
        self.columns, self.rows = columns, rows
        self.ink = np.zeros((rows * LINE, columns * ADVANCE), dtype=np.uint8)
        self.background: np.ndarray | None = None  # uint8 [height, width, 3], white if None
        self.rng = rng
        self.plain = plain
        self.font = FONTS[0] if plain else FONTS[int(rng.integers(len(FONTS)))]
        self.size = 22 if plain else SIZES[int(rng.integers(len(SIZES)))]

    def write(self, text: str, column: float, row: int) -> None:
        """Write one line of text starting at a cell; the caller must see that it fits the page."""
        for offset, character in enumerate(text):
            if character != " ":
                top, left = row * LINE, round((column + offset) * ADVANCE)
                cell = self.ink[top : top + LINE, left : left + ADVANCE]
                np.maximum(cell, glyph(self.font, self.size, character), out=cell)

    def rule(self, row: int) -> None:
        """Draw a thin line under a row."""
        self.ink[(row + 1) * LINE - 1, 4:-4] = 120

    def image(self) -> Image.Image:
        """Return the page, its text shifted by up to 2 pixels, with its ink's darkness and mild noise."""
        down, right = (int(shift) for shift in self.rng.integers(0, 3, size=2))
        ink = np.zeros(self.ink.shape, dtype=np.float32)
        ink[down:, right:] = self.ink[: ink.shape[0] - down, : ink.shape[1] - right]
        paper: np.ndarray | float = 255.0
        if self.background is not None:
            ink, paper = ink[..., None], self.background.astype(np.float32)
        if not self.plain:
            ink *= self.rng.uniform(0.7, 1.0)
        pixels = paper * (1.0 - ink / 255.0)
        if not self.plain:
            pixels += self.rng.normal(0.0, self.rng.uniform(0.0, 8.0), size=pixels.shape[:2] + (1,) * (ink.ndim - 2))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
