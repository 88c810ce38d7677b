"""Where the images of a batch stand: which placeholders are whose, and which token of an image each one stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

from fcot.errors import UserError
from fcot.internvl.tokens import page_tokens
from fcot.reduce.seen import Kept
from fcot.reduce.tower import tokens_of_tile


@dataclass(frozen=True)
class Span:
    """An image in a batch.

    Attributes:
        row: Its row of the batch.
        start: Its first placeholder there.
        tile: Its first tile.
        tiles: How many it has.
        tokens: Which of its T·N tokens stands at each placeholder, -1 for a newline `[placeholders]`.
        grid: Rows and columns of its tiles, if the model's inputs say so.
        stitched: Tokens stand in the rows of the page, as in LLaVA-NeXT, and not tile by tile; the tile that shows the
            whole image comes first.
    """

    row: int
    start: int
    tile: int
    tiles: int
    tokens: Tensor
    grid: tuple[int, int] | None = None
    stitched: bool = False

    @property
    def placeholders(self) -> slice:
        """Where its placeholders stand in the row."""
        return slice(self.start, self.start + len(self.tokens))

    def counted(self, per_tile: int) -> Tensor:
        """Return which of its tokens stand at a placeholder: not those of padding that LLaVA-NeXT removes `[T·N]`."""
        counted = torch.zeros(page_tokens(self.tiles, per_tile), dtype=torch.bool, device=self.tokens.device)
        counted[self.tokens[self.tokens >= 0]] = True
        return counted

    def spots(self, places: Tensor) -> Tensor:
        """Return at which of its placeholders tokens stand `[tokens]`, given their places among T·N."""
        there = self.tokens >= 0
        spots = torch.zeros(int(self.tokens.max()) + 1, dtype=torch.int64, device=self.tokens.device)
        spots[self.tokens[there]] = there.nonzero()[:, 0]
        return spots[places]

    def in_order(self, kept: Kept) -> Kept:
        """Return what is left of it in the order of its placeholders."""
        order = self.spots(kept.places).argsort(stable=True)
        return Kept(kept.rows[order], kept.places[order], kept.counts, kept.projected)

    def remaining(self, kept: Kept) -> Tensor:
        """Return which of its placeholders are left `[placeholders]`: newlines only where no token is dropped."""
        if self.is_whole(kept):
            return torch.ones_like(self.tokens, dtype=torch.bool)
        remaining = torch.zeros_like(self.tokens, dtype=torch.bool)
        remaining[self.spots(kept.places)] = True
        return remaining

    def with_newlines(self, rows: Tensor, kept: Kept, newline: Tensor) -> Tensor:
        """Return the projected rows of what is left `[kept, H]`, with newlines between them where these stay."""
        if not self.is_whole(kept):
            return rows
        whole = newline.to(rows).repeat(len(self.tokens), 1)
        whole[self.spots(kept.places)] = rows
        return whole

    def is_whole(self, kept: Kept) -> bool:
        """Return whether nothing of it is dropped."""
        return len(kept.places) == int((self.tokens >= 0).sum())


def is_stitched(config: Any) -> bool:
    """Return whether a model is a LLaVA-NeXT, which stitches tiles and removes padding behind the projector."""
    return bool(config.model_type == "llava_next")


def find_images(
    model: Any, ids: Tensor, real: Tensor, pixel_values: Tensor | None, image_sizes: Tensor | None = None
) -> list[Span]:
    """Find the images of a batch: each is one run of placeholders, as `<img>` and `</img>` stand around it.

    Args:
        model: InternVL, LLaVA-1.5 or LLaVA-NeXT.
        ids: `[batch, length]`.
        real: Which are tokens and no padding `[batch, length]`.
        pixel_values: As the model takes them.
        image_sizes: Height and width of each image in pixels `[images, 2]`, of a LLaVA-NeXT.

    Raises:
        UserError: If a run is no whole number of tiles, or tiles and placeholders differ in number.
    """
    visual = (ids == model.config.image_token_id) & real
    if is_stitched(model.config):
        return find_stitched(model, visual, pixel_values, image_sizes)
    per_tile = tokens_of_tile(model.config)
    edges = visual.int().diff(dim=1, prepend=visual.new_zeros(len(ids), 1).int(), append=visual.new_zeros(len(ids), 1))
    spans, tile = [], 0
    starts, ends = (edges == 1).nonzero().tolist(), (edges == -1).nonzero().tolist()
    for (row, start), (_, end) in zip(starts, ends, strict=True):
        if (end - start) % per_tile:
            raise UserError(
                f"Row {row} of the batch has {end - start} image placeholders in a row, and a tile has {per_tile}. "
                "Data and model must be given the same checkpoint, and its visual tokens must not be reduced already."
            )
        tokens = torch.arange(end - start, device=ids.device)
        spans.append(Span(row, start, tile, (end - start) // per_tile, tokens))
        tile += spans[-1].tiles
    given = 0 if pixel_values is None else len(pixel_values)
    if tile != given:
        raise UserError(f"The batch has placeholders for {tile} tiles, and {given} tiles. Give the tiles of all rows.")
    return spans


def find_stitched(model: Any, visual: Tensor, pixel_values: Tensor | None, image_sizes: Tensor | None) -> list[Span]:
    """Find the images of a batch for LLaVA-NeXT, where an image's size says how many tokens it has.

    Args:
        model: A `LlavaNextForConditionalGeneration`.
        visual: Which tokens are placeholders `[batch, length]`.
        pixel_values: `[images, tiles, 3, S, S]`.
        image_sizes: `[images, 2]`.

    Raises:
        UserError: If sizes, images and placeholders do not go together.
    """
    images = 0 if pixel_values is None else len(pixel_values)
    sizes = [] if image_sizes is None else image_sizes.tolist()
    if images != len(sizes):
        raise UserError(
            f"The batch has {images} images (pixel_values) and the sizes of {len(sizes)} (image_sizes). "
            "Give both as the model's processor returns them."
        )
    spots, spans, tile, used = visual.nonzero().tolist(), [], 0, 0
    for number, size in enumerate(sizes):
        tokens, grid = stitched(model, size)
        ours = spots[used : used + len(tokens)]
        row, start = ours[0] if ours else (0, 0)
        if ours != [[row, start + place] for place in range(len(tokens))]:
            raise UserError(
                f"Image {number} of the batch ({size[0]}x{size[1]}) has {len(tokens)} visual tokens, and not as many "
                f"placeholders stand together for it (in row {row}). Give ids and image_sizes of one processor's call, "
                "whose visual tokens are not reduced already."
            )
        spans.append(Span(row, start, tile, grid[0] * grid[1] + 1, tokens.to(visual.device), grid, stitched=True))
        tile, used = tile + spans[-1].tiles, used + len(tokens)
    if used != len(spots):
        raise UserError(
            f"The batch has {len(spots)} image placeholders, and its images have {used} visual tokens. "
            "Give pixel_values and image_sizes of all rows."
        )
    return spans


def stitched(model: Any, size: list[int]) -> tuple[Tensor, tuple[int, int]]:
    """Return which token of an image stands at each placeholder, -1 for a newline, and rows and columns of its tiles.

    The model's own method packs the numbers of tokens in place of their rows, so that padding is removed as it does.

    Args:
        model: A `LlavaNextForConditionalGeneration`.
        size: Height and width of the image in pixels.
    """
    config, per_tile = model.config, tokens_of_tile(model.config)
    rows, columns = get_anyres_image_grid_shape(size, config.image_grid_pinpoints, config.vision_config.image_size)
    numbers = torch.arange(page_tokens(rows * columns + 1, per_tile), dtype=torch.float64).view(-1, per_tile, 1)
    packed, _ = model.model.pack_image_features(
        [numbers],
        [size],
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        image_newline=torch.tensor([-1.0], dtype=torch.float64),
    )
    return packed[0][:, 0].long(), (rows, columns)


def tiles_of(spans: list[Span], inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the tiles of all images in order `[tiles, 3, S, S]`, those that fill up LLaVA-NeXT's batch left out."""
    pixels = inputs["pixel_values"]
    if pixels.ndim == 4:
        return pixels
    return torch.cat([each[: span.tiles] for each, span in zip(pixels, spans, strict=True)])
