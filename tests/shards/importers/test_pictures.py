"""What becomes of the formats that are written again as PNG, and of those that must not be opened."""

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from fcot.errors import SampleError
from fcot.internvl.tiling import to_rgb
from shards.importers import pictures
from shards.importers.pictures import pictures_of, tiff_page

NOISE = np.random.default_rng(0).integers(0, 256, (12, 16, 4), np.uint8)
MODES = {
    "1": Image.fromarray(NOISE[..., 0]).convert("1"),
    "L": Image.fromarray(NOISE[..., 0]),
    "P": Image.fromarray(NOISE[..., :3]).convert("P"),
    "RGB": Image.fromarray(NOISE[..., :3]),
    "RGBA": Image.fromarray(NOISE),
    "CMYK": Image.fromarray(NOISE[..., :3]).convert("CMYK"),
    "16 bit": Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257),
    "32 bit": Image.fromarray(NOISE[..., 0].astype(np.int32) * 257),
}


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def reason(call, *given):
    with pytest.raises(SampleError) as caught:
        call(*given)
    return caught.value.reason


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["TIFF", "BMP", "GIF"])
def test_the_model_sees_the_same_pixels_as_in_the_file(mode, kind):
    try:
        data = saved(MODES[mode], kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no {mode}")
    (picture,) = pictures_of("page", data)
    assert (picture.extension, picture.was) == ("png", kind)
    assert np.array_equal(to_rgb(opened(picture.data)), to_rgb(opened(data)))


def test_pages_of_a_tiff_come_in_order_and_of_a_gif_the_first_frame():
    colours = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    tiff, gif = (saved(colours[0], kind, save_all=True, append_images=colours[1:]) for kind in ("TIFF", "GIF"))
    pages = [opened(picture.data).convert("RGB").getpixel((0, 0)) for picture in pictures_of("p", tiff)]
    assert pages == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [opened(each.data).convert("RGB").getpixel((0, 0)) for each in pictures_of("p", gif)] == pages[:1]
    assert opened(tiff_page("p", tiff, 2)).getpixel((0, 0)) == (0, 0, 255)
    assert reason(tiff_page, "p", tiff, 3) == "missing_page"


def test_a_page_that_lies_on_its_side_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    (picture,) = pictures_of("p", saved(Image.new("L", (16, 8)), "TIFF", exif=exif))
    assert to_rgb(opened(picture.data)).size == (8, 16)


def test_what_is_no_image_or_broken_says_so():
    noisy = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)), "TIFF")
    for data in (noisy[: len(noisy) // 2], b"II*\0", b"BM", b"GIF89a", b"%PDF-1.4", b""):
        assert reason(pictures_of, "p", data) == "undecodable_image"
    assert reason(pictures_of, "p", saved(Image.new("F", (8, 8)), "TIFF")) == "undecodable_image"
    assert reason(pictures_of, "p", bytes(pictures.MAX_BYTES + 1)) == "too_many_bytes"


def tiff_of(width, height, pages):
    """A TIFF whose pages have no pixels behind their headers; the last one points back to the first."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height)]
    size = 2 + 12 * len(entries) + 4
    head = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *each) for each in entries)
    following = [*(8 + page * size for page in range(1, pages)), 8]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(head + struct.pack("<I", each) for each in following)


def bmp_of(width, height):
    """A BMP of a few bytes that says it is larger."""
    data = bytearray(saved(Image.new("1", (16, 16)), "BMP"))
    data[18:26] = struct.pack("<II", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (lambda: tiff_of(60_000, 60_000, 1), "image_too_large"),
        (lambda: tiff_of(40_000, 2, 1), "image_too_large"),
        (lambda: bmp_of(9000, 9000), "image_too_large"),
        (lambda: b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(3) + b"," + bytes(100), "image_too_large"),
        (lambda: tiff_of(8, 8, 5_000), "too_many_pages"),
    ],
)
def test_bombs_are_refused_before_they_are_opened(data, expected):
    start = time.perf_counter()
    assert reason(pictures_of, "p", data()) == expected
    assert time.perf_counter() - start < 20


def test_many_large_pages_are_too_large_together(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS_IN_ALL", 150)
    two = saved(Image.new("L", (10, 10)), "TIFF", save_all=True, append_images=[Image.new("L", (10, 10))])
    assert reason(pictures_of, "p", two) == "image_too_large"
