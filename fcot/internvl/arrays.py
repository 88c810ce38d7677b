"""Convert pages given as arrays, the form in which other image libraries return them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from fcot.errors import UserError

CHANNELS = (1, 3, 4)  # grey, colours, colours and opacity


def flat(images: Any) -> Iterator[Any]:
    """Yield every page of a single page, a list, a list for each text, or an array `[pages, …]` of four dimensions."""
    if isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4:
        for each in images:
            yield from flat(each)
    else:
        yield images


def picture_of(array: Any) -> Image.Image:
    """Convert an array to a PIL image.

    Args:
        array: `[height, width]` grey, or `[height, width, C]` or `[C, height, width]` with 1, 3 or 4 channels; whole
            numbers from 0 to 255, or fractions from 0 to 1.

    Raises:
        UserError: If it has another shape, or other values.
    """
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[-1] not in CHANNELS and pixels.shape[0] in CHANNELS:
        pixels = np.moveaxis(pixels, 0, -1)
    known = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in CHANNELS)
    if not known or not pixels.size:
        raise UserError(
            f"A page has shape {tuple(np.shape(array))}. "
            "Give [height, width] for grey, or add an axis of 1, 3 or 4 channels, first or last."
        )
    whole = bytes_of(pixels)
    return Image.fromarray(np.ascontiguousarray(whole[..., 0] if whole.shape[2:] == (1,) else whole))


def bytes_of(pixels: np.ndarray) -> np.ndarray:
    """Convert pixel values to uint8.

    Raises:
        UserError: If they are neither fractions from 0 to 1 nor whole numbers from 0 to 255.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "buif":
        raise UserError(f"A page has values of type {pixels.dtype}. Give 8-bit integers, or fractions from 0 to 1.")
    least, most = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind in "bf" and least >= 0 and most <= 1:
        return (pixels * 255.0).round().astype(np.uint8)
    if not (least >= 0 and most <= 255) or bool((pixels != np.floor(pixels)).any()):
        raise UserError(
            f"A page has pixel values from {least:g} to {most:g}. "
            "Give whole numbers from 0 to 255, or fractions from 0 to 1; do not normalize it, the processor does."
        )
    return pixels.astype(np.uint8)
