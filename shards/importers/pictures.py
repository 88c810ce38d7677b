"""Pictures of an import: JPEG, PNG and WebP as they are; TIFF, BMP and GIF written again as PNG, without loss."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fcot.errors import SampleError
from fcot.internvl.decode import MAX_PIXELS, MAX_SIDE, decode_image
from shards.feed.decode import IMAGE_EXTENSIONS, MAX_BYTES, MAX_SAMPLE_BYTES

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
STARTS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
}
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
MAX_PAGES = 1000  # of a TIFF; each header of a page has to be read to find the next
MAX_PIXELS_IN_ALL = 4 * MAX_PIXELS  # of the pages of a sample; they take up to 20 s to write
READ = (*IMAGE_EXTENSIONS, "tif", "tiff", "bmp", "gif")


@dataclass(frozen=True)
class Picture:
    """An image that is ready to be written.

    Attributes:
        extension: What it is: "jpg", "png" or "webp".
        data: Its bytes.
        was: Format that it was re-encoded from; "" if it is as it was found.
    """

    extension: str
    data: bytes
    was: str = ""


def pictures_of(name: str, data: bytes) -> list[Picture]:
    """Return the image in a file; of a TIFF every page in order, of a GIF the first frame.

    Args:
        name: For messages.
        data: The file.

    Raises:
        SampleError: If it is no such image, broken or too large.
    """
    if len(data) > MAX_BYTES:
        raise SampleError("too_many_bytes", f"{name} has {len(data)} bytes, over {MAX_BYTES}")
    kind = kind_of(data)
    if kind is None:
        return [Picture(EXTENSIONS[str(decode_image(data, name).format)], data)]
    return [Picture("png", page, kind) for page in _pages(name, data, kind)]


def kind_of(data: bytes) -> str | None:
    """Return "TIFF", "GIF" or "BMP" by a file's first bytes, None for anything else."""
    return next((kind for start, kind in STARTS.items() if data.startswith(start)), None)


def _pages(name: str, data: bytes, kind: str) -> list[bytes]:
    """Return the pages of a TIFF, or the first frame of another image, as PNG."""
    found: list[bytes] = []
    with refusing(name), Image.open(io.BytesIO(data), formats=[kind]) as image:
        pixels = 0
        while len(found) < MAX_PAGES:
            pixels += checked_size(image, name)
            if pixels > MAX_PIXELS_IN_ALL:
                raise SampleError("image_too_large", f"{name} has over {MAX_PIXELS_IN_ALL} pixels on its pages")
            found.append(as_png(image, name))
            if sum(map(len, found)) > MAX_SAMPLE_BYTES:
                raise SampleError("too_many_bytes", f"the pages of {name} have over {MAX_SAMPLE_BYTES} bytes as PNG")
            if kind != "TIFF" or not _turned(image, len(found)):
                return found
    raise SampleError("too_many_pages", f"{name} has over {MAX_PAGES} pages")


def tiff_page(name: str, data: bytes, number: int) -> bytes:
    """Return a page of a TIFF as PNG.

    Args:
        name: For messages.
        data: The file.
        number: Which page, from 0.

    Raises:
        SampleError: If there is no such page, or it is broken or too large.
    """
    with refusing(name), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        if number >= MAX_PAGES or not _turned(image, number):
            raise SampleError("missing_page", f"{name} has no page {number + 1}")
        checked_size(image, name)
        return as_png(image, name)


def _turned(image: Image.Image, number: int) -> bool:
    """Go to a page, and return whether there is one."""
    try:
        image.seek(number)
    except EOFError:
        return False
    return True


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises or warns of into the reason an image cannot be used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except SampleError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise SampleError("image_too_large", f"{name}: {error}") from error
    except Exception as error:  # Pillow's decoders raise many types; each means the same here
        raise SampleError("undecodable_image", f"{name}: {error}") from error


def checked_size(image: Image.Image, name: str) -> int:
    """Return how many pixels an image has, before any of them is decoded."""
    if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise SampleError(
            "image_too_large",
            f"{name} has {image.width}x{image.height} pixels, over {MAX_PIXELS} in all or {MAX_SIDE} a side",
        )
    return image.width * image.height


def as_png(image: Image.Image, name: str) -> bytes:
    """Return an image as PNG: the same pixels, or their RGB where PNG has no such colours."""
    image.load()
    if image.mode.startswith("I") and image.mode != "I;16":
        image = _grey(image, name)
    if image.mode == "F":
        raise SampleError("undecodable_image", f"{name} has fractions for pixels; write it with whole numbers")
    if image.mode not in PNG_MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3, icc_profile=None)
    if buffer.tell() > MAX_BYTES:
        raise SampleError("too_many_bytes", f"{name} has {buffer.tell()} bytes as PNG, over {MAX_BYTES}")
    return buffer.getvalue()


def _grey(image: Image.Image, name: str) -> Image.Image:
    """Return grey of 32 bits in as few as hold it."""
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65_535:
        raise SampleError("undecodable_image", f"{name} has grey values over 65535; write it with 16 bits")
    return Image.fromarray(pixels.astype(np.uint8 if pixels.max() < 256 else np.uint16))
