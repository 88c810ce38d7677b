"""InternVL with 1/2 of its visual tokens: model and processor, for transformers.

Written by `python -m fcot export` from the sources of fcot. Do not edit: change those and export again.
"""

import numpy as np
import re
import torch
from PIL import ExifTags, Image
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from functools import lru_cache
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_transforms import to_pil_image
from transformers.image_utils import is_pil_image, make_flat_list_of_images
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector
from transformers.processing_utils import ProcessorMixin
from typing import Any, ClassVar


class CompressedInternVLConfig(InternVLConfig):
    """InternVL's configuration plus the compressor's.

    Attributes:
        compressor: Short name of the compressor.
        ratio: How many visual tokens become one.
        placement: "before" the projector (on pixel-shuffled features) or "after" it.
        keep_positions: A visual token takes as many positions as it stands for, so that all tokens have the positions
            they have in the teacher; otherwise positions are counted anew.
    """

    model_type = "fcot_internvl"

    compressor: str = "conv"
    ratio: int = 2
    placement: str = "before"
    keep_positions: bool = False


class Compressor(nn.Module, ABC):
    """Turns every `ratio` visual tokens of a tile into one.

    Tokens come in raster order, row by row. A subclass is constructed as
    `Kind(ratio=…, side=…, width=…)`, sets its initial weights in `reset_parameters`, and works before the
    projector (on pixel-shuffled features) or after it alike.

    Args:
        ratio: How many tokens become one.
        side: Side of the square raster of tokens (16 in InternVL2).
        width: Width C of a token.

    Raises:
        ValueError: If the ratio does not divide the tokens of a tile.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__()
        if ratio < 1 or side * side % ratio:
            raise ValueError(
                f"Ratio {ratio} does not divide the {side * side} tokens of a {side}x{side} raster. "
                "Choose a divisor, 2 or 4 say."
            )
        self.ratio, self.side, self.width = ratio, side, width

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""

    def reset_parameters(self) -> None:
        """Set the initial weights."""


def compressors() -> dict[str, type[Compressor]]:
    """Return every registered compressor by its short name."""
    found: dict[str, type[Compressor]] = {}
    pending = list(Compressor.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        found[re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()] = kind
    return dict(sorted(found.items()))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean …?" with the nearest known name, or the list of them if none is near."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(names)}."


def make_compressor(name: str, *, ratio: int, side: int, width: int) -> Compressor:
    """Build a compressor by its short name.

    Args:
        name: Such as "conv"; `compressors()` lists them.
        ratio: How many visual tokens become one.
        side: Side of the square raster of tokens of a tile (16 in InternVL2).
        width: Width of a token.

    Raises:
        ValueError: If the name is unknown or the ratio does not fit the raster.
    """
    known = compressors()
    if name not in known:
        raise ValueError(f"There is no compressor {name!r}.{nearest(name, known)}")
    return known[name](ratio=ratio, side=side, width=width)


def raster_side(config: Any) -> int:
    """Return the side of a tile's square raster of visual tokens at ratio 1 (16 in InternVL2)."""
    vision = config.vision_config
    return int(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio)


class CompressedProjector(InternVLMultiModalProjector):
    """InternVL's projector with a compressor before or after it.

    Args:
        config: Configuration of the student.

    Raises:
        ValueError: If the compressor, its ratio or its placement is unknown.
    """

    def __init__(self, config: CompressedInternVLConfig) -> None:
        super().__init__(config)
        if config.placement not in ("before", "after"):
            raise ValueError(f"placement is {config.placement!r}. Use 'before' or 'after' (the projector).")
        self.placement = config.placement
        before = config.placement == "before"
        self.compressor = make_compressor(
            config.compressor,
            ratio=config.ratio,
            side=raster_side(config),
            width=self.linear_1.in_features if before else self.linear_2.out_features,
        )

    def forward(self, image_features: Tensor) -> Tensor:
        """Map pixel-shuffled features `[tiles, N, C]` to language rows `[tiles, N // ratio, H]`."""
        if self.placement == "before":
            projected: Tensor = super().forward(self.compressor(image_features))
            return projected
        compressed: Tensor = self.compressor(super().forward(image_features))
        return compressed


def positions(input_ids: Tensor, mask: Tensor | None, image_token_id: int, step: int) -> Tensor:
    """Return the position of every token when a visual token takes the place of `step` others.

    Args:
        input_ids: `[batch, length]`.
        mask: 1 on tokens, 0 on padding `[batch, length]`; None for all tokens.
        image_token_id: Id of the placeholder.
        step: How far a visual token moves what follows it.

    Returns:
        int64 `[batch, length]`; 0 on padding at the left.
    """
    steps = torch.where(input_ids == image_token_id, step, 1)
    steps = steps if mask is None else steps * mask
    return steps.cumsum(1) - steps


def _length(cache: Any) -> int:
    """Return how many tokens a cache holds."""
    return 0 if cache is None else int(cache.get_seq_length())


class CompressedInternVL(InternVLForConditionalGeneration):
    """An InternVL that sees 1/ratio of its visual tokens (FCoT-VL, section 3.1).

    Everything else, loading, saving and generation included, is `InternVLForConditionalGeneration`'s; its
    `config.image_seq_length` is the number of visual tokens of a tile after compression.

    Args:
        config: Configuration of the student.
    """

    config_class = CompressedInternVLConfig

    def __init__(self, config: CompressedInternVLConfig) -> None:
        super().__init__(config)
        self.model.multi_modal_projector = CompressedProjector(config)
        self.post_init()
        # transformers has just given all linear maps and convolutions a start of its own
        self.model.multi_modal_projector.compressor.reset_parameters()

    def positions(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor | None:
        """Return the positions of tokens `[batch, length]`, None where they simply count up."""
        if not self.config.keep_positions:
            return None
        return positions(input_ids, attention_mask, self.config.image_token_id, self.config.ratio)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the model as transformers does; positions are the teacher's if the configuration says so.

        transformers looks for arguments by name: without `logits_to_keep` all rows of a prompt meet the head, without
        `mm_encoder_outputs` beams mix up the tiles of a page, without `labels` its trainer drops these.
        """
        if self.config.keep_positions and input_ids is not None:
            if position_ids is None:
                position_ids = self._positions_behind(input_ids, attention_mask, past_key_values)
            if attention_mask is None and not _length(past_key_values) and bool((position_ids.diff() > 0).all()):
                # without a mask, transformers takes positions with gaps for several sequences in one row
                attention_mask = torch.ones_like(input_ids)
        outputs = super().forward(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        cache = getattr(outputs, "past_key_values", None)
        prompted = input_ids is not None and input_ids.shape[1] > 1
        if self.config.keep_positions and prompted and position_ids is not None and cache is not None:
            # what comes behind it goes on from the last position, not from the number of tokens
            cache.position_offset = position_ids[:, -1:] + 1 - cache.get_seq_length()
        return outputs

    def _positions_behind(self, input_ids: Any, attention_mask: Tensor | None, cache: Any) -> Tensor:
        """Return the positions of tokens that come behind those of a cache, whose attention mask may include these."""
        mask = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :]
        own = positions(input_ids, mask, self.config.image_token_id, self.config.ratio)
        behind = _length(cache)
        return own + behind + getattr(cache, "position_offset", 0) if behind else own

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """Return the positions of a prompt; `generate` counts on from the last one.

        A prompt that is given as embeddings is not known here: whoever has made them gives its positions too.
        """
        default: Tensor = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        input_ids = model_kwargs.get("input_ids", inputs_tensor)
        if not self.config.keep_positions or input_ids.ndim != 2 or not input_ids.shape[1]:
            return default
        cache, mask = model_kwargs.get("past_key_values"), model_kwargs.get("attention_mask")
        behind = default.shape[1] - input_ids.shape[1]
        if behind and behind == _length(cache):  # only what is new is given
            new = self._positions_behind(input_ids, mask, cache)
            return torch.cat([default[:, :behind].expand(len(new), -1), new], dim=1)
        return default if behind else self.positions(input_ids, mask)  # type: ignore[return-value]  # it keeps them


class Conv(Compressor):
    """1-d convolution along raster order with kernel = stride = ratio.

    It starts as average pooling with an identity channel map, so the student starts as the pooling baseline.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.conv = nn.Conv1d(width, width, kernel_size=ratio, stride=ratio)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        with torch.no_grad():
            eye = torch.eye(self.width, device=self.conv.weight.device, dtype=self.conv.weight.dtype)
            self.conv.weight.copy_(eye[:, :, None].expand_as(self.conv.weight) / self.ratio)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        # A window never overlaps the next, so the convolution is one matrix product.
        tiles, count, width = tokens.shape
        windows = tokens.reshape(tiles, count // self.ratio, self.ratio * width)
        weight = self.conv.weight.permute(0, 2, 1).reshape(width, self.ratio * width)
        return nn.functional.linear(windows, weight, self.conv.bias)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize(tiles: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise uint8 tiles `[tiles, 3, S, S]` on their device to float, by channel mean and deviation `[3]`."""
    return (tiles.to(mean.dtype) / 255 - mean[:, None, None]) / std[:, None, None]


def num_tiles(columns: int, rows: int, *, thumbnail: bool = True) -> int:
    """Return how many tiles a grid gives: its cells, and a thumbnail if there is more than one."""
    cells = columns * rows
    return cells + 1 if thumbnail and cells > 1 else cells


ORIENTATION_TOLD_BY = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # Pillow's names of metadata


UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """Apply an image's EXIF orientation; broken metadata, which Pillow's own function fails on, tell none."""
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises many types, SyntaxError among them
        turn = None
    if turn is None:
        return image
    image = image.transpose(turn)
    for name in ORIENTATION_TOLD_BY:
        image.info.pop(name, None)  # it is upright now, and stays so if it comes here again
    return image


WHITE = (255, 255, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an upright RGB image of any mode: EXIF rotation applied, transparency laid over white."""
    image = _upright(image)
    if image.mode.startswith(("I", "F")):  # 16- or 32-bit grey: scale by the type's full range
        pixels = np.asarray(image, dtype=np.float64)
        is_16_bit = image.mode.startswith("I;16") or pixels.max(initial=0.0) > 255
        full = 65535.0 if is_16_bit else 255.0
        image = Image.fromarray((pixels / full * 255.0).clip(0, 255).astype(np.uint8))
    if image.mode == "La":  # colours times transparency, which Pillow converts no further
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*WHITE, 255)), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=64)
def _grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """All (columns, rows) whose area lies within the limits, in order of area."""
    found = {
        (columns, rows)
        for area in range(min_tiles, max_tiles + 1)
        for columns in range(1, area + 1)
        for rows in range(1, area + 1)
        if min_tiles <= columns * rows <= max_tiles
    }
    return tuple(sorted(found, key=lambda grid: grid[0] * grid[1]))


def grid(width: int, height: int, max_tiles: int, *, min_tiles: int = 1, tile_size: int = 448) -> tuple[int, int]:
    """Choose the tile grid of an image.

    The grid with the nearest aspect ratio wins; on an exact tie the larger one wins if the image has more
    than half of its pixels.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        max_tiles: Most tiles, thumbnail not counted.
        min_tiles: Fewest tiles.
        tile_size: Side of a tile in pixels.

    Returns:
        (columns, rows).

    Raises:
        ValueError: If a size or limit is not positive.
    """
    if width < 1 or height < 1 or not 1 <= min_tiles <= max_tiles:
        raise ValueError(
            f"No tile grid for a {width}x{height} image with {min_tiles} to {max_tiles} tiles. "
            "Sizes must be positive and min_tiles at most max_tiles."
        )
    aspect = width / height
    best, best_difference = (1, 1), float("inf")
    for columns, rows in _grids(min_tiles, max_tiles):
        difference = abs(aspect - columns / rows)
        larger_on_tie = difference == best_difference and width * height > 0.5 * tile_size * tile_size * columns * rows
        if difference < best_difference or larger_on_tie:
            best, best_difference = (columns, rows), difference
    return best


def _fill(tiles: np.ndarray, image: Image.Image, columns: int, rows: int) -> None:
    """Resize an image to a grid of tiles and write these to `[rows · columns, 3, S, S]`."""
    side = tiles.shape[-1]
    size = (columns * side, rows * side)
    canvas = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    by_place = tiles.reshape(rows, columns, 3, side, side)
    for channel, band in enumerate(canvas.split()):  # whole rows of a channel are copied, not single bytes
        by_place[:, :, channel] = np.asarray(band).reshape(rows, side, columns, side).swapaxes(1, 2)


def cut(
    image: Image.Image, max_tiles: int, *, min_tiles: int = 1, tile_size: int = 448, thumbnail: bool = True
) -> torch.Tensor:
    """Cut an image into tiles.

    The image is resized once (bicubic) to the grid's canvas and cut there, row by row, which gives the same
    bytes as cropping tile by tile. With more than one tile, a thumbnail of the whole image comes last.

    Args:
        image: An image of any mode.
        max_tiles: Most tiles, thumbnail not counted.
        min_tiles: Fewest tiles.
        tile_size: Side S of a tile in pixels.
        thumbnail: Append a thumbnail of the whole image.

    Returns:
        uint8 tensor `[tiles, 3, S, S]`; normalise it on the device.
    """
    image = to_rgb(image)
    columns, rows = grid(*image.size, max_tiles, min_tiles=min_tiles, tile_size=tile_size)
    cells, count = columns * rows, num_tiles(columns, rows, thumbnail=thumbnail)
    tiles = np.empty((count, 3, tile_size, tile_size), dtype=np.uint8)
    with ThreadPoolExecutor(1) as beside:  # Pillow lets other threads run while it resizes
        small = beside.submit(_fill, tiles[cells:], image, 1, 1) if count > cells else None
        _fill(tiles[:cells], image, columns, rows)
        if small is not None:
            small.result()
    return torch.from_numpy(tiles)


TILING_OPTIONS = ("max_patches", "min_patches", "crop_to_patches")


class CompressedInternVLImageProcessor(BaseImageProcessor):
    """Cuts pages into normalised tiles; settings have the names of transformers' processor.

    Args:
        size: Height and width of a tile in pixels, equal (default: 448).
        max_patches: Most tiles of a page, thumbnail not counted.
        min_patches: Fewest tiles of a page.
        crop_to_patches: Cut pages at all; otherwise a page is one tile.
        image_mean: Mean of each colour, subtracted from values between 0 and 1.
        image_std: Standard deviation of each colour.
        kwargs: What else a folder says; kept, not used.
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
            images: PIL images, arrays, paths or addresses; one, a list, or a list for each text.
            max_patches: Most tiles of a page this time.
            min_patches: Fewest tiles of a page this time.
            crop_to_patches: Cut pages this time.
            return_tensors: "pt" or "np".

        Returns:
            `pixel_values` `[tiles, 3, S, S]`, a page's tiles in reading order and its thumbnail last, and
            `num_patches`, the number of tiles of each page.
        """
        limits = self._limits(max_patches, min_patches, crop_to_patches)
        pages = make_flat_list_of_images(self.fetch_images(images))
        pages = [page if is_pil_image(page) else to_pil_image(page) for page in pages]
        cuts = [cut(page, limits[1], min_tiles=limits[0], tile_size=self.size["height"]) for page in pages]
        tiles = normalize(torch.cat(cuts), torch.tensor(self.image_mean), torch.tensor(self.image_std))
        data = {"pixel_values": tiles, "num_patches": [len(tiles) for tiles in cuts]}
        return BatchFeature(data, tensor_type=return_tensors)

    def get_number_of_image_patches(
        self, height: int, width: int, images_kwargs: Mapping[str, Any] | None = None
    ) -> int:
        """Return how many tiles a page of a size in pixels is cut into, its thumbnail included."""
        options = {name: (images_kwargs or {}).get(name) for name in TILING_OPTIONS}
        fewest, most = self._limits(*options.values())
        return num_tiles(*grid(width, height, most, min_tiles=fewest, tile_size=self.size["height"]))

    def _limits(self, most: int | None, fewest: int | None, crop: bool | None) -> tuple[int, int]:
        """Return the fewest and most tiles of a page; None is the processor's own setting."""
        if not (self.crop_to_patches if crop is None else crop):
            return 1, 1
        return fewest or self.min_patches, most or self.max_patches


START, CONTEXT, END = "<img>", "<IMG_CONTEXT>", "</img>"


IMAGE = "<image>"


class CompressedInternVLProcessor(ProcessorMixin):
    """Turns pages and text into a student's inputs.

    Args:
        image_processor: Cuts pages into tiles.
        tokenizer: The model's tokenizer, with InternVL's image tokens.
        image_seq_length: Visual tokens of a tile after compression.
        chat_template: How `apply_chat_template` lays out a conversation.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.image_seq_length = image_seq_length
        self.image_token, self.image_token_id = CONTEXT, tokenizer.convert_tokens_to_ids(CONTEXT)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: None = None,
        *,
        images_kwargs: Mapping[str, Any] | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenize prompts, several of them padded on the left to one length, and cut their pages into tiles.

        Args:
            images: Pages in the order of their placeholders: one, a list, or a list for each text.
            text: Prompts with `<IMG_CONTEXT>` (or InternVL's `<image>`) where a page belongs.
            videos: Not supported.
            audio: Not supported.
            images_kwargs: Options of tiling, such as `max_patches`; also taken by name.
            text_kwargs: Options of the tokenizer, such as `padding`; also taken by name.
            return_tensors: "pt" or "np".
            kwargs: Options of tiling and tokenizer.

        Returns:
            `input_ids` and `attention_mask` `[texts, length]`, and `pixel_values` `[tiles, 3, S, S]` of all pages.

        Raises:
            ValueError: If there is no text, pages and placeholders differ in number, or there are videos or audio.
        """
        if text is None or videos is not None or audio is not None:
            raise ValueError("This model reads text and images. Give text=..., and images=... for its placeholders.")
        tiling = {name: kwargs.pop(name) for name in TILING_OPTIONS if name in kwargs} | dict(images_kwargs or {})
        counts: list[int] = []
        pixels = {}
        if images is not None:
            cut_up = self.image_processor(images, **tiling)
            counts, pixels = cut_up["num_patches"], {"pixel_values": cut_up["pixel_values"]}
        prompts = self._expand([text] if isinstance(text, str) else list(text), counts)
        defaults = {"padding": len(prompts) > 1, "padding_side": "left"}
        encoded = self.tokenizer(prompts, **{**defaults, **kwargs, **(text_kwargs or {})})
        return BatchFeature({**encoded, **pixels}, tensor_type=return_tensors)

    def _expand(self, texts: list[str], counts: Sequence[int]) -> list[str]:
        """Give each page as many placeholders as its tiles have visual tokens."""
        placeholder = self.image_token if any(self.image_token in text for text in texts) else IMAGE
        found = sum(text.count(placeholder) for text in texts)
        if found != len(counts) and (counts or placeholder == self.image_token):
            raise ValueError(
                f"The text has {found} image placeholders and {len(counts)} images were given. "
                f"Write {self.image_token} once for each image."
            )
        if not counts:
            return texts
        spans = iter([START + self.image_token * (self.image_seq_length * count) + END for count in counts])
        return [re.sub(re.escape(placeholder), lambda _: next(spans), text) for text in texts]
