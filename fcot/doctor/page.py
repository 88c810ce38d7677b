"""What a page costs: tiles and tokens, before compression and after it."""

from dataclasses import dataclass

from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import grid, num_tiles
from fcot.internvl.tokens import AROUND, page_tokens, tokens_per_tile
from fcot.models.token_counts import TokenCounts


@dataclass(frozen=True)
class PageCost:
    """A page of a size in pixels, cut into tiles.

    Attributes:
        width: Pixels.
        height: Pixels.
        columns: Of the grid of tiles.
        rows: Of the grid of tiles.
        tiles: Tiles, thumbnail included.
        before: Tokens at ratio 1, those around the image included.
        after: Tokens after compression, the most where tiles differ, those around the image included.
    """

    width: int
    height: int
    columns: int
    rows: int
    tiles: int
    before: int
    after: int


def page_cost(folder: ModelFolder, width: int, height: int, ratio: int, max_tiles: int | None = None) -> PageCost:
    """Return what a page costs a model.

    Args:
        folder: The model's.
        width: Of the page in pixels.
        height: Of the page in pixels.
        ratio: How many visual tokens become one.
        max_tiles: Most tiles, thumbnail not counted (default: the model's).

    Raises:
        UserError: If the ratio does not divide a tile's tokens.
    """
    columns, rows = grid(width, height, max_tiles or folder.max_tiles, tile_size=folder.tile_size)
    tiles = num_tiles(columns, rows)
    most = TokenCounts(folder.config).most if hasattr(folder.config, "ratio") else tokens_per_tile(folder.config, ratio)
    before, after = (page_tokens(tiles, each) + AROUND for each in (tokens_per_tile(folder.config), most))
    return PageCost(width, height, columns, rows, tiles, before, after)
