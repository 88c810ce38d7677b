import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fcot.errors import SampleError, UserError
from fcot.internvl.decode import decode_image, open_image


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def noise(width=40, height=40):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_of_size(width, height):
    """A PNG that says how large it is and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


def reason(call, *args):
    with pytest.raises(SampleError) as caught:
        call(*args)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_read(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(encoded(noise(), kind, **options), "a")
    assert image.size == (40, 40)
    if kind != "JPEG":
        assert image.convert("RGB").tobytes() == noise().tobytes()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_other_formats_are_refused(kind):
    assert reason(decode_image, encoded(noise(), kind), "a") == "undecodable_image"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_cut_off_image_is_refused_rather_than_filled_with_grey(kind, share):
    whole = encoded(noise(), kind)
    assert reason(decode_image, whole[: int(share * len(whole))], "a") == "undecodable_image"


@pytest.mark.parametrize("side", [8_000, 12_000, 30_000])
def test_a_huge_image_is_refused_by_its_header(side):
    assert reason(decode_image, png_of_size(side, side), "a") == "image_too_large"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no image at"),
        (b"", "page.png"),
        (b"not an image", "is not a JPEG, PNG or WebP image"),
        (encoded(noise())[:-30], "truncated"),
        (png_of_size(9_000, 9_000), "has 9000x9000 pixels, over 50000000"),
        (encoded(noise(), "GIF"), "is not a JPEG, PNG or WebP image"),
    ],
)
def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path, content, message):
    if content is not None:
        (tmp_path / "page.png").write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_image(tmp_path / "page.png")
    assert message in str(caught.value) and "page.png" in str(caught.value)
    assert "JPEG, PNG or WEBP" in str(caught.value)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(UserError, match="There is no image at"):
        open_image(tmp_path)


def test_an_image_file_is_opened(tmp_path):
    noise().save(tmp_path / "page.webp", lossless=True)
    assert open_image(tmp_path / "page.webp").convert("RGB").tobytes() == noise().tobytes()
