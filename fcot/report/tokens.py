"""The picture of a page's visual tokens: its tiles, the tokens of each, and what a student makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from fcot.compress import COMPRESSORS
from fcot.convert.auto_convert import native_folder
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import cut, grid
from fcot.internvl.tokens import raster_side
from fcot.models.spec import StudentSpec
from fcot.models.student_config import student_config
from fcot.models.token_counts import TokenCounts
from fcot.report.runs import setting, settings_of, trainings

INK, BLUE, MIST, WHITE = (51, 51, 51), (47, 111, 159), (90, 155, 205), (255, 255, 255)
WIDTH, GAP, MARGIN = 2000, 14, 70  # pixels: the picture, between tiles, between panels
HEAD, FOOT = 112, 36  # room for text above and below a panel's tiles
LARGEST_TILE = 360


@dataclass(frozen=True)
class TilingSpec:
    """How a model sees pages.

    Attributes:
        tile_size: Side of a tile in pixels.
        max_tiles: Most tiles of a page, thumbnail not counted.
        config: The teacher's.
        spec: What makes a student of it, at whatever ratio.
    """

    tile_size: int
    max_tiles: int
    config: Any
    spec: StudentSpec

    @property
    def side(self) -> int:
        """Side of a tile's raster of tokens at ratio 1."""
        return raster_side(self.config)

    def counts(self, page: Image.Image, ratio: int) -> list[int]:
        """Return the visual tokens of each tile of a page."""
        config = self.config if ratio == 1 else student_config(self.config, self.spec.at(ratio))
        counts: list[int] = TokenCounts(config)(cut(page, self.max_tiles, tile_size=self.tile_size)).tolist()
        return counts


def tiling_of(run: Path) -> TilingSpec | None:
    """Return how a run's models see pages, by the configuration of a re-alignment; None if there is none."""
    for path in trainings(run).values():
        settings = settings_of(path.parent, path.name)
        if setting(settings, "model", "compressor", setting(settings, "model", "ratio")) is None:
            continue
        try:
            folder = ModelFolder(native_folder(Path(setting(settings, "model", "checkpoint", ""))))
            spec = StudentSpec(
                setting(settings, "model", "compressor", "conv"),
                placement=setting(settings, "model", "placement", "before"),
                options=setting(settings, "model", "compressor_options") or {},
            )
        except UserError:  # the teacher's folder or a plugin is gone; the page is then shown without its tokens
            continue
        return TilingSpec(
            tile_size=folder.tile_size,
            max_tiles=setting(settings, "model", "max_tiles") or folder.max_tiles,
            config=folder.config,
            spec=spec,
        )
    return None


def windows(compressor: str, ratio: int, side: int) -> np.ndarray | None:
    """Return which output token each token of a tile's raster goes into, `[side, side]`.

    None for compressors whose outputs each see the whole tile.
    """
    if ratio == 1:
        return np.arange(side * side).reshape(side, side)
    return COMPRESSORS[compressor].windows(ratio, side)


def draw_tokens(page: Image.Image, eyes: TilingSpec, panels: Sequence[tuple[int, str]]) -> Image.Image:
    """Draw a page as its tiles with their tokens, once for each ratio, side by side.

    Args:
        page: The page.
        eyes: How the models see it.
        panels: Ratio and title of each panel.
    """
    columns, rows = grid(*page.size, eyes.max_tiles, tile_size=eyes.tile_size)
    tiles = cut(page, eyes.max_tiles, tile_size=eyes.tile_size)
    across = columns + (len(tiles) > 1)
    panel_width = (WIDTH - MARGIN * (len(panels) - 1)) // len(panels)
    size = min((panel_width - GAP * (across + 1)) // across, LARGEST_TILE) // eyes.side * eyes.side
    canvas = Image.new("RGB", (WIDTH, HEAD + rows * (size + GAP) + FOOT), WHITE)
    text = ImageDraw.Draw(canvas)
    for number, (ratio, title) in enumerate(panels):
        left, groups = number * (panel_width + MARGIN), windows(eyes.spec.compressor, ratio, eyes.side)
        counts = eyes.counts(page, ratio)
        each = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        shown = f"{len(tiles)} tiles \N{MULTIPLICATION SIGN} {each} = {sum(counts)} visual tokens"
        text.text((left, 4), title, INK, face(34, bold=True))
        text.text((left, 52), shown, INK, face(30))
        for place, tile in enumerate(tiles):
            thumbnail = place == columns * rows
            column, row = (columns, 0) if thumbnail else (place % columns, place // columns)
            corner = left + column * (size + GAP) + 2 * GAP * thumbnail, HEAD + row * (size + GAP)
            canvas.paste(draw_tile(Image.fromarray(tile.permute(1, 2, 0).numpy()), groups, size), corner)
            if thumbnail:
                text.text((corner[0], corner[1] + size + 8), "thumbnail", INK, face(26))
    return canvas


def draw_tile(tile: Image.Image, groups: np.ndarray | None, size: int) -> Image.Image:
    """Draw one tile with the outlines of its tokens; tokens alternate in tint where several cells become one."""
    enlarged = tile.resize((size, size), Image.Resampling.BICUBIC)
    overlay = Image.new("RGBA", (size, size))
    draw = ImageDraw.Draw(overlay)
    if groups is not None:
        side = len(groups)
        cell, merged = size // side, groups.max() + 1 < side * side
        edges = np.diff(groups, axis=0) != 0, np.diff(groups, axis=1) != 0
        for row, column in np.ndindex(side, side):
            x, y = column * cell, row * cell
            if merged and tinted(groups, row, column):
                draw.rectangle((x, y, x + cell - 1, y + cell - 1), (*MIST, 70))
            if column < side - 1 and edges[1][row, column]:
                draw.line((x + cell, y, x + cell, y + cell), (*BLUE, 255), 3)
            if row < side - 1 and edges[0][row, column]:
                draw.line((x, y + cell, x + cell, y + cell), (*BLUE, 255), 3)
    draw.rectangle((0, 0, size - 1, size - 1), outline=(*INK, 255), width=4)
    return Image.alpha_composite(enlarged.convert("RGBA"), overlay).convert("RGB")


def tinted(groups: np.ndarray, row: int, column: int) -> bool:
    """Return whether a cell's token is tinted: every other one, across and down."""
    across = len(dict.fromkeys(groups[row, : column + 1]))
    down = len(dict.fromkeys(groups[: row + 1, column]))
    return bool((across + down) % 2)


def face(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return a font that ships with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)
