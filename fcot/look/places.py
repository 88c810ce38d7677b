"""Which part of a page each visual token stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fcot.compress import Compressor, Elastic
from fcot.internvl.tiling import num_tiles
from fcot.internvl.tokens import even_windows


@dataclass(frozen=True)
class TileTokens:
    """The visual tokens of one tile.

    Attributes:
        count: How many there are.
        lead: How many of them come first and stand for the whole tile.
        windows: Which of the others stands for each cell of the tile's raster `[side, side]`; None if each stands for
            the whole tile.
    """

    count: int
    lead: int
    windows: np.ndarray | None

    def spread(self, values: np.ndarray, side: int) -> np.ndarray:
        """Divide each token's value evenly among its cells, and return the sums `[side, side]`.

        Args:
            values: Of the tile's tokens `[count]`.
            side: Side of the raster.
        """
        own, every = values[self.lead :], float(values[: self.lead].sum())
        if self.windows is None:
            return np.full((side, side), (every + own.sum()) / side**2)
        cells = np.bincount(self.windows.ravel(), minlength=len(own))
        spread: np.ndarray = (own / cells)[self.windows] + every / side**2
        return spread

    def boxes(self, side: int) -> np.ndarray:
        """Return the smallest box around each token's cells, in cells: left, top, right, bottom `[count, 4]`."""
        boxes = np.tile([0, 0, side, side], (self.count, 1))
        if self.windows is not None:
            for number in range(self.count - self.lead):
                rows, columns = np.nonzero(self.windows == number)
                boxes[self.lead + number] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        return boxes

    def borders(self) -> list[tuple[int, int, int, int]]:
        """Return the lines between cells of different tokens, in cells: x, y, and how far it goes right and down."""
        if self.windows is None:
            return []
        right, below = (np.argwhere(np.diff(self.windows, axis=axis)) for axis in (1, 0))
        return [(int(x) + 1, int(y), 0, 1) for y, x in right] + [(int(x), int(y) + 1, 1, 0) for y, x in below]


def tile_tokens(compressor: Compressor | None, side: int, count: int) -> TileTokens:
    """Return what the visual tokens of a tile stand for.

    Args:
        compressor: The student's; None for a model without one.
        side: Side of a tile's raster of tokens at ratio 1.
        count: Visual tokens of the tile.
    """
    if isinstance(compressor, Elastic):
        ratio = compressor.ratio_of_count[compressor.check(count)]
        compressor = None if ratio == 1 else compressor.part(ratio)
    if compressor is None or compressor.varies:  # as `fcot.models.positions` places them
        return TileTokens(count, 0, even_windows(count, side))
    return TileTokens(count, compressor.lead, compressor.windows(compressor.ratio, side))


@dataclass(frozen=True)
class TokenPlaces:
    """Where the visual tokens of a page stand.

    Attributes:
        size: Width and height of the page in pixels.
        grid: Columns and rows of its tiles.
        side: Side of a tile's raster of tokens at ratio 1.
        tiles: Tokens of each tile, row by row, the thumbnail last if there is one.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    side: int
    tiles: Sequence[TileTokens]

    def __post_init__(self) -> None:
        if len(self.tiles) != num_tiles(*self.grid):
            raise ValueError(f"{len(self.tiles)} tiles for a grid of {self.grid}")

    @property
    def has_thumbnail(self) -> bool:
        """Whether the last tile is a thumbnail of the whole page."""
        return len(self.tiles) > self.grid[0] * self.grid[1]

    @cached_property
    def starts(self) -> np.ndarray:
        """Number of each tile's first token, and of all tokens `[tiles + 1]`."""
        return np.cumsum([0, *(tile.count for tile in self.tiles)])

    @property
    def thumbnail_start(self) -> int:
        """Number of the thumbnail's first token, or of all tokens if there is no thumbnail."""
        return int(self.starts[self.grid[0] * self.grid[1]])

    def rasters(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Divide each token's value evenly among the cells that it stands for.

        Args:
            values: Of all visual tokens in order `[tokens]`.

        Returns:
            Sums by cell of the page's tiles `[rows · side, columns · side]`, and of the thumbnail `[side, side]`, None
            if there is none.
        """
        parts = np.split(values, self.starts[1:-1])
        spread = [tile.spread(part, self.side) for tile, part in zip(self.tiles, parts, strict=True)]
        columns, rows = self.grid
        page = np.stack(spread[: columns * rows]).reshape(rows, columns, self.side, self.side)
        whole = page.swapaxes(1, 2).reshape(rows * self.side, columns * self.side)
        return whole, spread[-1] if self.has_thumbnail else None

    def boxes(self) -> np.ndarray:
        """Return the box around each visual token in pixels of the page: left, top, right, bottom `[tokens, 4]`.

        The thumbnail shows the whole page, so that boxes of its tokens lie over those of the tiles.
        """
        (width, height), (columns, rows) = self.size, self.grid
        found = []
        for number, tile in enumerate(self.tiles):
            thumbnail = number == columns * rows
            row, column = (0, 0) if thumbnail else divmod(number, columns)
            across, down = (1, 1) if thumbnail else self.grid
            corner = np.array([column, row, column, row]) * self.side
            scale = np.array([width / across, height / down] * 2) / self.side
            found.append((tile.boxes(self.side) + corner) * scale)
        return np.concatenate(found)
