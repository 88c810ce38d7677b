"""The heat of an answer over its page, and how far two models look at the same places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fcot.look.look import Look

TOP_AREA = 0.1  # share of a page's area in which two models' highest heat is compared
COOL, HOT = (255, 196, 0), (214, 22, 22)  # colours of a little and of much heat
OPACITY = 0.8  # of the most heat
FULL_COLOR = 0.995  # share of all models' cells that are less hot than the full colour


@dataclass(frozen=True)
class Heat:
    """Attention to the places of a page, mean over the tokens of an answer.

    Heat is 1 where a place has as much attention as if all of it were spread evenly over tiles and thumbnail.

    Attributes:
        cells: Heat of the cells of the page's tiles, fp64 `[rows · side, columns · side]`.
        thumbnail: Heat of the thumbnail's cells `[side, side]`; None if there is none.
        size: Width and height of the page in pixels.
    """

    cells: np.ndarray
    thumbnail: np.ndarray | None
    size: tuple[int, int]

    @property
    def thumbnail_share(self) -> float:
        """Share of the attention that is on the thumbnail."""
        if self.thumbnail is None:
            return 0.0
        on_tiles, on_thumbnail = float(self.cells.sum()), float(self.thumbnail.sum())
        return on_thumbnail / (on_tiles + on_thumbnail)

    def over_page(self) -> np.ndarray:
        """Return the heat of each pixel of the page, its thumbnail apart `[height, width]`."""
        return enlarged(self.cells, self.size)


def heat_of(look: Look) -> Heat:
    """Return the heat of an answer, each of its tokens counted alike."""
    mean = look.attention.double().mean(0).numpy()
    cells, thumbnail = look.places.rasters(mean)
    number = cells.size + (0 if thumbnail is None else thumbnail.size)
    return Heat(cells * number, None if thumbnail is None else thumbnail * number, look.places.size)


def enlarged(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the value of the cell in which the middle of each pixel lies `[height, width]`.

    Args:
        cells: Evenly laid over a page `[rows, columns]`.
        size: Width and height of the page in pixels.
    """
    rows, columns = (
        ((np.arange(pixels) + 0.5) * number / pixels).astype(int)
        for pixels, number in zip(reversed(size), cells.shape, strict=True)
    )
    found: np.ndarray = cells[rows][:, columns]
    return found


@dataclass(frozen=True)
class Agreement:
    """How far two models look at the same places of a page, thumbnails left out.

    Attributes:
        correlation: Of the heat of pixels (Pearson); None if one model looks evenly everywhere.
        overlap: Share that the tenths of the page with the highest heat have in common; by chance about 0.1, and more
            where tokens are large.
    """

    correlation: float | None
    overlap: float


def agreement(first: Heat, second: Heat) -> Agreement:
    """Compare the heat of two models over one page.

    Raises:
        ValueError: If the pages differ in size.
    """
    if first.size != second.size:
        raise ValueError(f"pages of {first.size} and {second.size} pixels")
    one, other = first.over_page(), second.over_page()
    even = min(np.ptp(one), np.ptp(other)) == 0
    correlation = None if even else float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    shared = np.minimum(highest(one), highest(other)).mean() / TOP_AREA
    return Agreement(correlation, float(shared))


def highest(heat: np.ndarray) -> np.ndarray:
    """Return how far each pixel belongs to the `TOP_AREA` of a page with the highest heat, 0 to 1.

    Pixels as hot as the last that belong share what is left of the area: the pixels of a visual token are equal.
    """
    wanted = TOP_AREA * heat.size
    place = -int(np.ceil(wanted))
    last = np.partition(heat, place, axis=None)[place]
    above, equal = heat > last, heat == last
    belongs: np.ndarray = above + equal * ((wanted - above.sum()) / equal.sum())
    return belongs


def full_color(heats: Sequence[Heat]) -> float:
    """Return the heat that has the full colour, the same for all models and for thumbnails."""
    maps = [each.ravel() for heat in heats for each in (heat.cells, heat.thumbnail) if each is not None]
    return max(1.0, float(np.quantile(np.concatenate(maps), FULL_COLOR)))


def overlay(page: Image.Image, heat: np.ndarray, most: float) -> Image.Image:
    """Return a page in grey with heat laid over it in colour.

    Args:
        page: The page.
        heat: Of each of its pixels `[height, width]`.
        most: Heat that has the full colour.
    """
    strength = np.clip(heat / most, 0, 1)[..., None]
    grey = np.asarray(page.convert("L"), dtype=np.float64)[..., None]
    color = np.array(COOL) * (1 - strength) + np.array(HOT) * strength
    light = 255 - (255 - color) * strength * OPACITY
    mixed = grey / 255 * light  # as ink on tinted paper, so that writing stays readable
    return Image.fromarray(mixed.round().astype(np.uint8))
