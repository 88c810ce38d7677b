import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fcot.internvl.tiling import cut, grid, num_tiles, to_rgb

# image sizes and tile limits with the grid that InternVL2's original code picks
ORIGINAL = json.loads((Path(__file__).parent / "internvl2_tiling.json").read_text())


def noise(width, height, mode="RGB"):
    rng = np.random.default_rng(0)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode)


def as_image(tile):
    return Image.fromarray(tile.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("case", ORIGINAL["cases"], ids=lambda case: f"{case['width']}x{case['height']}")
def test_grids_are_the_original_codes(case):
    found = grid(case["width"], case["height"], case["max_tiles"], tile_size=ORIGINAL["tile_size"])
    assert found == (case["columns"], case["rows"])


def test_a_tie_goes_to_the_larger_grid_only_if_the_image_fills_half_of_it():
    assert grid(448, 448, 12) == (1, 1)
    assert grid(640, 640, 12) == (2, 2)  # 640² is just over half of (2·448)²
    assert grid(633, 633, 12) == (1, 1)  # and 633² just under
    assert grid(640, 640, 12, tile_size=896) == (1, 1)


def test_the_fewest_tiles_are_kept_too():
    assert np.prod(grid(448, 448, 12, min_tiles=4)) >= 4


@pytest.mark.parametrize("case", [(0, 10, 6, 1), (10, 0, 6, 1), (10, 10, 0, 1), (10, 10, 3, 4)])
def test_impossible_sizes_and_limits_are_refused(case):
    width, height, most, fewest = case
    with pytest.raises(ValueError, match=f"{width}x{height} image with {fewest} to {most} tiles"):
        grid(width, height, most, min_tiles=fewest)


@pytest.mark.parametrize("size", [(500, 130), (130, 500), (300, 290), (112, 56), (56, 56), (20, 9)])
def test_tiles_equal_the_original_codes_crop_by_crop_path(size):
    image, side = noise(*size), 56
    columns, rows = grid(*size, 6, tile_size=side)
    resized = image.resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    crops = [
        resized.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
        for row in range(rows)
        for column in range(columns)
    ]
    if len(crops) > 1:
        crops.append(image.resize((side, side), Image.Resampling.BICUBIC))
    expected = torch.from_numpy(np.stack([np.asarray(crop) for crop in crops])).permute(0, 3, 1, 2)
    found = cut(image, 6, tile_size=side)
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected)
    assert len(found) == num_tiles(columns, rows)


def test_the_thumbnail_is_last_and_only_where_there_are_several_tiles():
    image = noise(112, 56)
    tiles = cut(image, 6, tile_size=56)
    assert len(tiles) == 3
    assert as_image(tiles[-1]).tobytes() == image.resize((56, 56), Image.Resampling.BICUBIC).tobytes()
    assert len(cut(image, 6, tile_size=56, thumbnail=False)) == 2
    assert len(cut(noise(56, 56), 6, tile_size=56)) == 1


def test_a_page_of_the_canvas_size_keeps_its_pixels():
    image = noise(112, 112)
    tiles = cut(image, 4, tile_size=56, thumbnail=False)
    assert torch.equal(tiles[1], torch.from_numpy(np.asarray(image)[:56, 56:].copy()).permute(2, 0, 1))


def test_transparency_lies_over_white():
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    rgba.putpixel((1, 0), (255, 0, 0, 0))
    assert [to_rgb(rgba).getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]
    grey = Image.new("LA", (2, 1), (0, 0))
    grey.putpixel((1, 0), (0, 255))
    assert [to_rgb(grey).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 0)]


def test_palettes_give_their_colours_and_their_transparency():
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert to_rgb(palette).getpixel((0, 0)) == (10, 20, 30)
    palette.putpixel((1, 0), 0)
    palette.info["transparency"] = 0
    assert [to_rgb(palette).getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


def test_cmyk_and_black_and_white_become_rgb():
    assert to_rgb(Image.new("CMYK", (1, 1), (0, 255, 255, 0))).getpixel((0, 0)) == (255, 0, 0)
    assert to_rgb(Image.new("1", (1, 1), 1)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "PA", "LA", "La", "RGBa", "RGBX", "YCbCr", "LAB", "HSV", "I", "F", "I;16B"]
)
def test_any_mode_becomes_rgb_and_the_same_each_time(mode):
    image = Image.new(mode, (3, 2))
    assert to_rgb(image).mode == "RGB"
    assert to_rgb(image).tobytes() == to_rgb(image).tobytes()


def test_16_bit_grey_is_scaled_by_its_whole_range():
    grey = Image.fromarray(np.array([[0, 65535, 32768]], dtype=np.uint16))
    assert grey.mode == "I;16"
    assert [to_rgb(grey).getpixel((x, 0))[0] for x in range(3)] == [0, 255, 127]


def test_a_dark_16_bit_page_stays_dark():
    dark = Image.fromarray(np.full((4, 4), 200, dtype=np.uint16))
    assert to_rgb(dark).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_broken_metadata_do_not_lose_the_image(form):
    file = io.BytesIO()
    noise(8, 4).save(file, form, exif=b"Exif\0\0garbage!!")
    with Image.open(file) as opened:
        assert to_rgb(opened).size == (8, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_an_upright_image_stays_upright(orientation, form):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    noise(8, 4).save(file, form, exif=exif)
    with Image.open(file) as opened:
        once = to_rgb(opened)
        assert once.tobytes() == ImageOps.exif_transpose(opened).tobytes()
        assert to_rgb(once).tobytes() == once.tobytes()


def test_the_camera_s_orientation_is_applied():
    image = noise(8, 4)
    exif = image.getexif()
    exif[0x0112] = 6  # turned: show it rotated by 90 degrees clockwise
    image.info["exif"] = exif.tobytes()
    upright = to_rgb(image)
    assert upright.size == (4, 8)
    assert upright.tobytes() == image.transpose(Image.Transpose.ROTATE_270).tobytes()
