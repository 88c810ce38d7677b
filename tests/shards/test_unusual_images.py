"""Images with several frames, other colours or other depths are read as a person would see them."""

import io

import numpy as np
import pytest
from PIL import Image

from shards.feed.datamodule import Shards
from tests.shards.made import record, write

GOOD_IMAGES = {
    "several frames": lambda: frames("WEBP", "webp"),
    "APNG": lambda: frames("PNG", "png"),
    "MPO of a phone": lambda: frames("MPO", "jpg"),
    "CMYK": lambda: ("jpg", saved(Image.new("CMYK", (60, 60), (0, 200, 0, 0)), "JPEG")),
    "16 bit": lambda: ("png", saved(Image.fromarray(np.full((60, 60), 40_000, np.uint16)), "PNG")),
    "palette with transparency": lambda: ("png", saved(Image.new("P", (60, 60)), "PNG", transparency=0)),
}


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def frames(form, extension):
    """An image of a red, then a blue frame."""
    red, blue = (Image.new("RGB", (60, 60), colour) for colour in ("red", "blue"))
    return extension, saved(red, form, save_all=True, append_images=[blue])


@pytest.mark.parametrize("what", GOOD_IMAGES)
def test_unusual_images_are_read_by_their_first_frame(tmp_path, layout, what):
    extension, data = GOOD_IMAGES[what]()
    root = write(tmp_path / "root", (f"x.{extension}", data), ("x.json", record()))
    batches = Shards(root, eval_batch_size=1, num_workers=0).loader("train", layout=layout)
    tiles = {batch.keys[0]: batch.tiles for batch in batches}["x"]
    if what in ("several frames", "APNG", "MPO of a phone"):
        assert tiles[0, 0].float().mean() > 200 > 50 > tiles[0, 2].float().mean()
    if what == "16 bit":
        assert abs(tiles.float().mean() - 40_000 / 257) < 1
