"""Decode untrusted images: complete files of three formats, of bounded size."""

import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fcot.errors import SampleError, UserError

FORMATS = ("JPEG", "PNG", "WEBP")
JPEG = b"\xff\xd8"
START_OF_SCAN = b"\xff\xda"  # these bytes mean nothing else in a JPEG
MAX_PIXELS = 50_000_000  # a 600 dpi letter page has 34 million
MAX_SIDE = 30_000  # a line one pixel wide is no page, and its tiles would show nothing of it
MAX_SCANS = 100  # of a JPEG; a progressive one has about ten, and each goes over all of its pixels
MAX_BYTES = 200_000_000  # MAX_PIXELS, uncompressed with four channels


def decode_image(data: bytes, member: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a complete JPEG, PNG or WEBP of bounded size.

    Args:
        data: The encoded image.
        member: Its name in messages.
        max_pixels: Most pixels it may have (default: 50 million).

    Raises:
        SampleError: If it has another format, is truncated, has too many pixels or a side of more than 30,000, or is a
            JPEG of more than 100 scans.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > max_pixels or max(image.size) > MAX_SIDE:
                raise SampleError(
                    "image_too_large",
                    f"{member} has {image.width}x{image.height} pixels, over {max_pixels} in all or {MAX_SIDE} a side",
                )
            if data[:2] == JPEG and (scans := data.count(START_OF_SCAN)) > MAX_SCANS:
                raise SampleError("image_too_slow", f"{member} has {scans} scans, over {MAX_SCANS}")
            image.load()
    except SampleError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise SampleError("image_too_large", f"{member}: {error}") from error
    except UnidentifiedImageError as error:  # Pillow's message names only the buffer
        raise SampleError("undecodable_image", f"{member} is not a JPEG, PNG or WebP image") from error
    except Exception as error:  # Pillow's decoders raise many types; each means the same here
        raise SampleError("undecodable_image", f"{member}: {error}") from error
    return image


def open_image(path: Path) -> Image.Image:
    """Open an image file.

    Raises:
        UserError: If it is missing, too large, or cannot be decoded.
    """
    if not path.is_file():
        raise UserError(f"There is no image at {str(path)!r}.\nGive the path of a JPEG, PNG or WEBP file.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"{path} has {size} bytes, over {MAX_BYTES}.\nGive a JPEG, PNG or WEBP file of one page.")
    try:
        return decode_image(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).\nGive a file that you may read.") from error
    except SampleError as error:
        raise UserError(f"{error}.\nGive a whole JPEG, PNG or WEBP file of at most {MAX_PIXELS} pixels.") from error
