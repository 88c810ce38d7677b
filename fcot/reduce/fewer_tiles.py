"""Pages are cut into fewer tiles: the control that saves the vision tower's work too."""

from fcot.internvl.tiling import grid, num_tiles
from fcot.reduce.budget import check_share
from fcot.reduce.reducer import Reducer


class FewerTiles(Reducer):
    """Gives each page the largest grid whose tiles, thumbnail included, are at most a share of what it had.

    A page's tiles are a step function of its shape, so the mean share that is reached may be lower than asked.

    Args:
        keep: Share of a page's tiles that is left, in (0, 1]; a page always has one.

    Raises:
        UserError: If it is no share.
    """

    def __init__(self, keep: float = 0.5) -> None:
        self.keep = check_share("keep", keep)

    def limit(self, width: int, height: int, max_tiles: int, tile_size: int) -> int:
        """Return the most tiles of a page, thumbnail not counted.

        Args:
            width: Of the page in pixels.
            height: Of the page in pixels.
            max_tiles: What it may have without this.
            tile_size: Side of a tile in pixels.
        """
        budget = self.keep * num_tiles(*grid(width, height, max_tiles, tile_size=tile_size))
        fits = (
            most
            for most in range(max_tiles, 1, -1)
            if num_tiles(*grid(width, height, most, tile_size=tile_size)) <= budget
        )
        return next(fits, 1)
