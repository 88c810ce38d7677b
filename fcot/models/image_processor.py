"""Cut pages into the tiles of a student's inputs, as in training.

transformers' own InternVL processor needs torchvision (for videos), and resizes pages by a filter that training
does not use. This one needs only Pillow, and cuts pages with training's code.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import is_pil_image

from fcot.errors import UserError
from fcot.internvl.arrays import flat, picture_of
from fcot.internvl.pixels import normalize
from fcot.internvl.tiling import cut, grid, num_tiles

TILING_OPTIONS = ("max_patches", "min_patches", "crop_to_patches")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CompressedInternVLImageProcessor(BaseImageProcessor):
    """Cuts pages into normalised tiles; its settings are named as in transformers' processor.

    Args:
        size: Height and width of a tile in pixels, equal (default: 448).
        max_patches: Most tiles of a page, thumbnail not counted.
        min_patches: Fewest tiles of a page.
        crop_to_patches: Cut pages into several tiles; otherwise each page is one tile.
        image_mean: Mean of each colour, subtracted from values between 0 and 1.
        image_std: Standard deviation of each colour.
        kwargs: Further settings of a folder; stored, not used.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    def __init__(
        self,
        *,
        size: Mapping[str, int] | None = None,
        max_patches: int = 12,
        min_patches: int = 1,
        crop_to_patches: bool = True,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = {"height": 448, "width": 448} if size is None else dict(size)
        self.max_patches, self.min_patches, self.crop_to_patches = max_patches, min_patches, crop_to_patches
        self.image_mean, self.image_std = list(image_mean), list(image_std)

    def preprocess(
        self,
        images: Any,
        *,
        max_patches: int | None = None,
        min_patches: int | None = None,
        crop_to_patches: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Cut pages into tiles.

        Args:
            images: PIL images, arrays (see `picture_of`), paths or URLs; one, a list, or a list for each text.
            max_patches: Most tiles of a page in this call.
            min_patches: Fewest tiles of a page in this call.
            crop_to_patches: Whether to cut pages in this call.
            return_tensors: "pt" or "np".

        Returns:
            `pixel_values` `[tiles, 3, S, S]`, a page's tiles in reading order and its thumbnail last, and
            `num_patches`, the number of tiles of each page.

        Raises:
            UserError: If there is no page, or an array is not an image (see `picture_of`).
        """
        limits = self._limits(max_patches, min_patches, crop_to_patches)
        pages = [page if is_pil_image(page) else picture_of(page) for page in flat(self.fetch_images(images))]
        if not pages:
            raise UserError("There is no page among the images. Give one, or leave images out.")
        cuts = [cut(page, limits[1], min_tiles=limits[0], tile_size=self.size["height"]) for page in pages]
        tiles = normalize(torch.cat(cuts), torch.tensor(self.image_mean), torch.tensor(self.image_std))
        data = {"pixel_values": tiles, "num_patches": [len(tiles) for tiles in cuts]}
        return BatchFeature(data, tensor_type=return_tensors)

    def get_number_of_image_patches(
        self, height: int, width: int, images_kwargs: Mapping[str, Any] | None = None
    ) -> int:
        """Return how many tiles, thumbnail included, a page of this size in pixels is cut into."""
        options = {name: (images_kwargs or {}).get(name) for name in TILING_OPTIONS}
        fewest, most = self._limits(*options.values())
        return num_tiles(*grid(width, height, most, min_tiles=fewest, tile_size=self.size["height"]))

    def _limits(self, most: int | None, fewest: int | None, crop: bool | None) -> tuple[int, int]:
        """Return the fewest and most tiles of a page; None stands for the processor's setting."""
        if not (self.crop_to_patches if crop is None else crop):
            return 1, 1
        return fewest or self.min_patches, most or self.max_patches
