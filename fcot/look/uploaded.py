"""A page that was uploaded: as the browser shows it, and as each model sees it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from fcot.errors import SampleError
from fcot.internvl.decode import decode_image
from fcot.internvl.tiling import to_rgb
from fcot.look.look import CutPage
from fcot.look.reader import Reader
from fcot.serve.refusal import RefusalError

SHOWN_SIDE = 1200  # pixels of the longer side of a page in the browser


@dataclass(frozen=True)
class Uploaded:
    """A page.

    Attributes:
        size: Width and height in pixels, upright.
        shown: The page as the browser shows it, RGB.
        png: The same as a PNG.
        cuts: What the models cut it into, by `Reader.looker`'s limits: `cut_of`.
    """

    size: tuple[int, int]
    shown: Image.Image
    png: bytes
    cuts: dict[tuple[int, int], CutPage]

    @property
    def num_bytes(self) -> int:
        """Bytes that it takes."""
        pixels = 3 * self.shown.width * self.shown.height
        return len(self.png) + pixels + sum(cut.tiles.nbytes for cut in self.cuts.values())

    def cut_of(self, reader: Reader) -> CutPage:
        """Return what a model cuts it into."""
        return self.cuts[limits_of(reader)]


def limits_of(reader: Reader) -> tuple[int, int]:
    """Return what a cut depends on: most tiles, and the side of one in pixels."""
    return reader.looker.max_tiles, reader.looker.folder.tile_size


def read_page(data: bytes | bytearray, readers: Sequence[Reader], max_pixels: int) -> Uploaded:
    """Decode and cut a page.

    Raises:
        RefusalError: If it is no whole picture of bounded size.
    """
    try:
        whole = to_rgb(decode_image(bytes(data), "The picture", max_pixels=max_pixels))
    except SampleError as error:
        raise RefusalError(
            400,
            f"The picture cannot be read: {error}.",
            f"Give a whole JPEG, PNG or WebP of at most {max_pixels} pixels.",
        ) from None
    cuts: dict[tuple[int, int], CutPage] = {}
    for reader in readers:
        limits = limits_of(reader)
        if limits not in cuts:
            cuts[limits] = reader.looker.cut(whole)
    size = whole.size
    whole.thumbnail((SHOWN_SIDE, SHOWN_SIDE))  # in place: a copy might have 150 megabytes
    return Uploaded(size, whole, png_of(whole), cuts)


def png_of(picture: Image.Image) -> bytes:
    """Return a picture as a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
