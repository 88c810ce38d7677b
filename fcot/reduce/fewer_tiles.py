"""Control: pages are cut into fewer tiles, which saves work in the vision tower too."""

from fcot.internvl.tiling import grid, num_tiles
from fcot.reduce.budget import check_share
from fcot.reduce.reducer import Reducer


class FewerTiles(Reducer):
    """Lowers the limit of tiles of each page: see `fewer_tiles`.

    Args:
        keep: Share of a page's tiles that remain at most, in (0, 1]; a page always has one.

    Raises:
        UserError: If it is no share.
    """

    def __init__(self, keep: float = 0.5) -> None:
        self.keep = check_share("keep", keep)

    def limit(self, width: int, height: int, max_tiles: int, tile_size: int) -> int:
        """Return the most tiles of a page, thumbnail not counted; arguments as of `fewer_tiles`."""
        return fewer_tiles(width, height, max_tiles, self.keep, tile_size=tile_size)


def fewer_tiles(width: int, height: int, max_tiles: int, keep: float, *, tile_size: int = 448) -> int:
    """Return the largest limit of tiles at which a page has no more than a share of the tiles it has now.

    Thumbnails count. What is reached is a step function of the page's shape, often less than the share, so report the
    mean over pages. A page always has one tile, even where that is more than the share.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        max_tiles: The limit now, thumbnail not counted.
        keep: Share of the tiles that remain at most.
        tile_size: Side of a tile in pixels.

    Returns:
        A limit from 1 to `max_tiles`.

    Raises:
        UserError: If a size, the limit or the share is out of range.
    """
    check_share("keep", keep)

    def tiles(limit: int) -> int:
        return num_tiles(*grid(width, height, limit, tile_size=tile_size))

    budget = keep * tiles(max_tiles)
    return next((limit for limit in range(max_tiles, 1, -1) if tiles(limit) <= budget), 1)
