"""Boxes of visual tokens cover a page once, and each stands where the model sees it."""

import numpy as np
import pytest
import torch
from PIL import Image

from fcot.compress import make_compressor
from fcot.internvl.tiling import cut, num_tiles
from fcot.look.heat import enlarged
from fcot.look.places import TokenPlaces, tile_tokens

SIDE, TILE = 4, 56  # of a tile: raster of tokens, pixels
GRIDS = [(1, 1), (2, 1), (1, 3), (3, 2)]
KINDS = {  # shape of a window, and who has it
    "1x1": (None, 1),
    "1x2": ("conv", 2),
    "1x2 by squares": ("pool", 2),
    "1x4": ("conv", 4),
    "2x2": ("conv2d", 4),
    "a row and a half": ("conv", 8),
}


def compressor_of(kind):
    name, ratio = KINDS[kind]
    return None if name is None else make_compressor(name, ratio=ratio, side=SIDE, width=1)


def places_of(compressor, grid, size, count=None):
    count = count or (SIDE**2 if compressor is None else compressor.max_tokens)
    return TokenPlaces(size, grid, SIDE, [tile_tokens(compressor, SIDE, count)] * num_tiles(*grid))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_cover_every_pixel_once_and_the_thumbnails_do_so_again(kind, grid):
    size = grid[0] * SIDE * 3, grid[1] * SIDE * 5
    places = places_of(compressor_of(kind), grid, size)
    boxes = places.boxes()
    assert len(boxes) == num_tiles(*grid) * SIDE**2 // KINDS[kind][1]
    assert boxes.tolist() == boxes.round().tolist()
    start = places.thumbnail_start
    for part in (boxes[:start], boxes[start:])[: 1 + places.has_thumbnail]:
        covered = np.zeros(size[::-1], dtype=int)
        for left, top, right, bottom in part.astype(int):
            covered[top:bottom, left:right] += 1
        assert (covered == 1).all()


@pytest.mark.parametrize("size", [(301, 97), (1000, 1414)])
def test_boxes_cover_a_page_of_any_size_without_gaps(size):
    boxes = places_of(compressor_of("2x2"), (3, 2), size).boxes()[:24]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert areas.sum() == pytest.approx(size[0] * size[1])
    assert boxes.min() == 0 and boxes[:, 2].max() == pytest.approx(size[0]) and boxes[:, 3].max() == size[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_sees_what_is_in_its_box(kind):
    """A black box on white paper is cut, averaged patch by patch, and pooled by the compressor itself."""
    grid, size = (3, 2), (3 * TILE, 2 * TILE)
    compressor = compressor_of(kind)
    places = places_of(compressor, grid, size)
    for token, box in enumerate(places.boxes()[: places.thumbnail_start]):
        page = Image.new("RGB", size, "white")
        page.paste((0, 0, 0), tuple(box.astype(int)))
        tiles = cut(page, 6, tile_size=TILE).float()
        patches = torch.nn.functional.avg_pool2d(tiles.mean(1, keepdim=True), TILE // SIDE).flatten(2).transpose(1, 2)
        seen = (patches if compressor is None else compressor(patches)).flatten(0, 1)[:, 0]
        assert (seen[: places.thumbnail_start] < 1).nonzero().flatten().tolist() == [token]
        values = np.zeros(len(seen))
        values[token] = 1.0
        heat = enlarged(places.rasters(values)[0], size)
        assert ((heat > 0) == (np.asarray(page)[..., 0] == 0)).all()


@pytest.mark.parametrize(
    ("name", "options"), [("qformer", {}), ("mqt", {}), ("llama_vid", {"context": "token", "language_width": 8})]
)
def test_tokens_that_stand_for_no_part_are_laid_over_their_tile(name, options):
    width = options.pop("language_width", None)
    compressor = make_compressor(name, ratio=2, side=SIDE, width=8, options=options, language_width=width)
    places = places_of(compressor, (2, 1), (80, 40))
    values = np.zeros(int(places.starts[-1]))
    values[places.starts[1]] = 3.0  # the first token of the second tile
    page, thumbnail = places.rasters(values)
    assert (page[:, :SIDE] == 0).all() and not thumbnail.any()
    assert page[:, SIDE:] == pytest.approx(3.0 / SIDE**2)
    assert places.boxes()[places.starts[1]].tolist() == [40, 0, 80, 40]


def test_what_is_divided_among_cells_adds_up():
    values = np.random.default_rng(0).random(3 * 8)
    page, thumbnail = places_of(compressor_of("1x2"), (2, 1), (80, 40)).rasters(values)
    assert page.shape == (SIDE, 2 * SIDE) and thumbnail.shape == (SIDE, SIDE)
    assert page.sum() == pytest.approx(values[:16].sum()) and thumbnail.sum() == pytest.approx(values[16:].sum())


def test_borders_run_between_cells_of_different_tokens():
    (squares,) = places_of(compressor_of("2x2"), (1, 1), (TILE, TILE)).tiles
    down, right = [(2, y, 0, 1) for y in range(SIDE)], [(x, 2, 1, 0) for x in range(SIDE)]
    assert sorted(squares.borders()) == sorted(down + right)
    (bent,) = places_of(compressor_of("a row and a half"), (1, 1), (TILE, TILE)).tiles
    assert bent.windows is not None
    lines = {(2 * x + right, 2 * y + down) for x, y, right, down in bent.borders()}  # middles, in half cells
    for y, x in np.ndindex(SIDE, SIDE - 1):
        assert ((2 * x + 2, 2 * y + 1) in lines) == (bent.windows[y, x] != bent.windows[y, x + 1])
        assert ((2 * y + 1, 2 * x + 2) in lines) == (bent.windows[x, y] != bent.windows[x + 1, y])
    assert tile_tokens(make_compressor("mqt", ratio=4, side=SIDE, width=8), SIDE, 4).borders() == []
