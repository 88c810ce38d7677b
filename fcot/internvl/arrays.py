"""Pages given as arrays of numbers, as scripts have them that read pages with other libraries."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from fcot.errors import UserError

CHANNELS = (1, 3, 4)  # grey, colours, colours and opacity


def flat(images: Any) -> Iterator[Any]:
    """Yield the pages of one, of a list, of a list for each text, or of an array `[pages, …]` of four dimensions."""
    if isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4:
        for each in images:
            yield from flat(each)
    else:
        yield images


def picture_of(array: Any) -> Image.Image:
    """Return a page as a picture.

    Args:
        array: `[height, width]` grey, `[height, width, C]` or `[C, height, width]` with 1 channel, 3 or 4: whole
            numbers from 0 to 255, or fractions from 0 to 1.

    Raises:
        UserError: If it has another shape, or numbers that are no colours.
    """
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[-1] not in CHANNELS and pixels.shape[0] in CHANNELS:
        pixels = np.moveaxis(pixels, 0, -1)
    known = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in CHANNELS)
    if not known or not pixels.size:
        raise UserError(
            f"A page has shape {tuple(np.shape(array))}. "
            "Give height and width alone (grey), or these with 1, 3 or 4 channels, first or last."
        )
    whole = bytes_of(pixels)
    return Image.fromarray(np.ascontiguousarray(whole[..., 0] if whole.shape[2:] == (1,) else whole))


def bytes_of(pixels: np.ndarray) -> np.ndarray:
    """Return colours as numbers of 8 bits.

    Raises:
        UserError: If they are neither from 0 to 1 nor whole numbers from 0 to 255.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "buif":
        raise UserError(f"A page has numbers of type {pixels.dtype}. Give 8-bit numbers, or fractions from 0 to 1.")
    least, most = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind in "bf" and least >= 0 and most <= 1:
        return (pixels * 255.0).round().astype(np.uint8)
    if not (least >= 0 and most <= 255) or bool((pixels != np.floor(pixels)).any()):
        raise UserError(
            f"A page has numbers from {least:g} to {most:g}, which are no colours. "
            "Give whole numbers from 0 to 255, or fractions from 0 to 1; a page is normalized here, not before."
        )
    return pixels.astype(np.uint8)
