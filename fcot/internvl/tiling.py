"""Cut an image into tiles the way InternVL2 does (its dynamic preprocessing, arXiv 2404.16821 section 2)."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from PIL import ExifTags, Image

from fcot.errors import UserError

WHITE = (255, 255, 255)
WORTH_A_THREAD = 1_000_000  # pixels of an image or its tiles; below, starting a thread takes longer than it saves
# The transposition that makes an image upright, by its EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION_TOLD_BY = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # Pillow's names of metadata


@lru_cache(maxsize=64)
def _grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """All (columns, rows) whose area lies within the limits, in order of area."""
    found = {
        (columns, rows)
        for area in range(min_tiles, max_tiles + 1)
        for columns in range(1, area + 1)
        for rows in range(1, area + 1)
        if min_tiles <= columns * rows <= max_tiles
    }
    return tuple(sorted(found, key=lambda grid: grid[0] * grid[1]))


def grid(width: int, height: int, max_tiles: int, *, min_tiles: int = 1, tile_size: int = 448) -> tuple[int, int]:
    """Choose the tile grid of an image.

    The grid with the nearest aspect ratio wins; on an exact tie the larger grid wins if the image has more
    than half as many pixels.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        max_tiles: Most tiles, thumbnail not counted.
        min_tiles: Fewest tiles.
        tile_size: Side of a tile in pixels.

    Returns:
        (columns, rows).

    Raises:
        UserError: If a size or limit is not positive.
    """
    if width < 1 or height < 1 or not 1 <= min_tiles <= max_tiles:
        raise UserError(
            f"No tile grid for a {width}x{height} image with {min_tiles} to {max_tiles} tiles. "
            "Sizes must be positive and min_tiles at most max_tiles."
        )
    aspect = width / height
    best, best_difference = (1, 1), float("inf")
    for columns, rows in _grids(min_tiles, max_tiles):
        difference = abs(aspect - columns / rows)
        larger_on_tie = difference == best_difference and width * height > 0.5 * tile_size * tile_size * columns * rows
        if difference < best_difference or larger_on_tie:
            best, best_difference = (columns, rows), difference
    return best


def num_tiles(columns: int, rows: int, *, thumbnail: bool = True) -> int:
    """Return how many tiles a grid gives: its cells, plus a thumbnail if there is more than one cell."""
    cells = columns * rows
    return cells + 1 if thumbnail and cells > 1 else cells


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, with its EXIF rotation applied and transparency laid over white."""
    image = _upright(image)
    if image.mode.startswith(("I", "F")):  # 16- or 32-bit grey: scale by the type's full range
        pixels = np.asarray(image, dtype=np.float64)
        is_16_bit = image.mode.startswith("I;16") or pixels.max(initial=0.0) > 255
        full = 65535.0 if is_16_bit else 255.0
        image = Image.fromarray((pixels / full * 255.0).clip(0, 255).astype(np.uint8))
    if image.mode == "La":  # premultiplied, which Pillow converts to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*WHITE, 255)), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Apply an image's EXIF orientation; broken metadata, on which Pillow's own function fails, is ignored."""
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises many types, SyntaxError among them
        turn = None
    if turn is None:
        return image
    image = image.transpose(turn)
    for name in ORIENTATION_TOLD_BY:
        image.info.pop(name, None)  # or a second call would rotate it again
    return image


def cut(
    image: Image.Image, max_tiles: int, *, min_tiles: int = 1, tile_size: int = 448, thumbnail: bool = True
) -> torch.Tensor:
    """Cut an image into tiles.

    The image is resized once (bicubic) to the grid's canvas and cut there, row by row, which gives the same
    bytes as cropping tile by tile. With more than one tile, a thumbnail of the whole image comes last.

    Args:
        image: An image of any mode.
        max_tiles: Most tiles, thumbnail not counted.
        min_tiles: Fewest tiles.
        tile_size: Side S of a tile in pixels.
        thumbnail: Append a thumbnail of the whole image.

    Returns:
        uint8 tensor `[tiles, 3, S, S]`; normalise it on the device.
    """
    image = to_rgb(image)
    columns, rows = grid(*image.size, max_tiles, min_tiles=min_tiles, tile_size=tile_size)
    cells, count = columns * rows, num_tiles(columns, rows, thumbnail=thumbnail)
    tiles = np.empty((count, 3, tile_size, tile_size), dtype=np.uint8)
    if count == cells or max(image.width * image.height, cells * tile_size**2) < WORTH_A_THREAD:
        _fill(tiles[:cells], image, columns, rows)
        if count > cells:
            _fill(tiles[cells:], image, 1, 1)
    else:
        with ThreadPoolExecutor(1) as beside:  # Pillow releases the GIL while it resizes
            small = beside.submit(_fill, tiles[cells:], image, 1, 1)
            _fill(tiles[:cells], image, columns, rows)
            small.result()
    return torch.from_numpy(tiles)


def _fill(tiles: np.ndarray, image: Image.Image, columns: int, rows: int) -> None:
    """Resize an image to a grid and write its tiles to `[rows · columns, 3, S, S]`."""
    side = tiles.shape[-1]
    size = (columns * side, rows * side)
    canvas = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    by_place = tiles.reshape(rows, columns, 3, side, side)
    for channel, band in enumerate(canvas.split()):  # copies whole rows of a channel, not single bytes
        by_place[:, :, channel] = np.asarray(band).reshape(rows, side, columns, side).swapaxes(1, 2)
