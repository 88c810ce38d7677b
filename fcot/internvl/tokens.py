"""Visual tokens: how many a tile has, and where they stand in a sequence. They are counted nowhere else."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fcot.errors import UserError

START, CONTEXT, END = "<img>", "<IMG_CONTEXT>", "</img>"
AROUND = 2  # START and END, around a page's visual tokens

# Visual tokens per tile: one number for all, or a function from uint8 `[tiles, 3, S, S]` to int64 `[tiles]`
TileTokens: TypeAlias = Callable[[Tensor], Tensor] | int


def raster_side(config: Any) -> int:
    """Return the side of a tile's square raster of visual tokens at ratio 1 (16 in InternVL2)."""
    vision = config.vision_config
    return int(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio)


def tokens_per_tile(config: Any, ratio: int = 1) -> int:
    """Return how many visual tokens a tile has when `ratio` of them become one.

    Raises:
        UserError: If the ratio does not divide the tile's tokens.
    """
    tokens = raster_side(config) ** 2
    if ratio < 1 or tokens % ratio:
        raise UserError(
            f"Ratio {ratio} does not divide the {tokens} visual tokens of a tile. Choose a divisor, such as 2 or 4."
        )
    return tokens // ratio


def tile_counts(tokens: TileTokens, tiles: Tensor) -> Tensor:
    """Return how many visual tokens each tile has, int64 `[tiles]` on the CPU.

    Args:
        tokens: Visual tokens per tile of a model.
        tiles: uint8 `[tiles, 3, S, S]`.
    """
    return torch.full((len(tiles),), tokens) if isinstance(tokens, int) else tokens(tiles).cpu().long()


def page_tokens(tiles: Any, tokens: int) -> Any:
    """Return the visual tokens of pages, given only their numbers of tiles.

    Args:
        tiles: Number of tiles of a page, or an array of such numbers.
        tokens: Visual tokens of a tile; the maximum where tiles differ.
    """
    return tiles * tokens


def sums_by_sample(counts: Tensor, num_tiles: Tensor) -> Tensor:
    """Return the visual tokens of each sample `[batch]`.

    Args:
        counts: Visual tokens of each tile `[tiles]`.
        num_tiles: Tiles of each sample `[batch]`.
    """
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])[num_tiles.cumsum(0)]
    return ends.diff(prepend=ends.new_zeros(1))


def token_steps(counts: Tensor, teacher_tokens: int) -> Tensor:
    """Return how many of the teacher's tokens each visual token stands for, int64 `[visual tokens]`.

    The teacher's tokens of a tile are divided evenly among its visual tokens; the first ones take one more each if a
    remainder is left.

    Args:
        counts: Visual tokens of each tile `[tiles]`.
        teacher_tokens: Visual tokens of a tile at ratio 1.
    """
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    number, count = torch.arange(len(first), device=counts.device) - first, torch.repeat_interleave(counts, counts)
    share, left = teacher_tokens // count, teacher_tokens % count
    return share + (number < left)


def even_windows(count: int, side: int) -> np.ndarray:
    """Return which visual token stands for each of the teacher's `[side, side]`, where they are divided evenly.

    Args:
        count: Visual tokens of the tile.
        side: Side of the teacher's raster.
    """
    steps = token_steps(torch.tensor([count]), side**2).numpy()
    return np.repeat(np.arange(count), steps).reshape(side, side)


def places_in_tile(windows: np.ndarray, lead: int = 0) -> Tensor:
    """Return where each visual token of a tile stands, counted from the teacher's first `[lead + tokens]`.

    It stands in the first row of its window, at the mean of its columns: after training, and more so before, a
    student reads better than with tokens at the first place of their window, or at its centre.

    Args:
        windows: Number of the visual token that stands for each of the teacher's `[side, side]`.
        lead: Tokens in front of those, which stand for the whole tile; they are half a place from each other.
    """
    side, window = windows.shape[1], windows.ravel()
    row, column = np.divmod(np.arange(len(window)), side)
    first_row = np.full(window.max() + 1, len(window))
    np.minimum.at(first_row, window, row)
    places = first_row * side + np.bincount(window, column) / np.bincount(window)
    front = places[0] - np.arange(lead, 0, -1) / 2
    found = torch.from_numpy(np.concatenate([front, places]))
    return found.long() if bool((found == found.round()).all()) else found.float()


def positions_by_place(
    input_ids: Tensor, mask: Tensor | None, image_token_id: int, places: Tensor | Sequence[Tensor], teacher_tokens: int
) -> Tensor:
    """Return the position of every token when a tile takes up as many positions as in the teacher.

    Args:
        input_ids: `[batch, length]`; a tile's tokens are all in one row.
        mask: 1 on tokens, 0 on padding `[batch, length]`; None for all tokens.
        image_token_id: Id of the placeholder.
        places: Where a tile's visual tokens stand in it, see `places_in_tile`; for all tiles or for each in order.
        teacher_tokens: Positions that a tile takes up.

    Returns:
        `[batch, length]`, int64, or float32 if places are fractions; 0 on left padding.
    """
    visual = input_ids == image_token_id
    if isinstance(places, Tensor):  # worked out without values, which the meta device has none of
        number = (visual.cumsum(1) - 1) % len(places)
        offsets, last = places.to(input_ids.device)[number], number == len(places) - 1
    else:
        each = torch.cat([torch.zeros(0), *places]).to(input_ids.device)
        ends = torch.cat([torch.zeros(0).bool(), *(torch.arange(len(tile)) == len(tile) - 1 for tile in places)])
        offsets = torch.zeros_like(input_ids, dtype=each.dtype).masked_scatter(visual, each)
        last = torch.zeros_like(visual).masked_scatter(visual, ends.to(input_ids.device))
    steps = torch.where(visual, teacher_tokens * last, 1)
    steps = steps if mask is None else steps * mask
    return steps.cumsum(1) - steps + offsets * visual


def positions(input_ids: Tensor, mask: Tensor | None, image_token_id: int, step: int | Tensor) -> Tensor:
    """Return the position of every token when a visual token takes up several positions.

    Args:
        input_ids: `[batch, length]`.
        mask: 1 on tokens, 0 on padding `[batch, length]`; None for all tokens.
        image_token_id: Id of the placeholder.
        step: Positions that a visual token takes up; one number, or one for each in order `[visual tokens]`.

    Returns:
        int64 `[batch, length]`; 0 on left padding.
    """
    visual = input_ids == image_token_id
    if isinstance(step, Tensor):
        steps = torch.ones_like(input_ids).masked_scatter(visual, step.to(input_ids))
    else:
        steps = torch.where(visual, step, 1)
    steps = steps if mask is None else steps * mask
    return steps.cumsum(1) - steps


def check_placeholders(
    input_ids: Tensor,
    image_token_id: int,
    expected: Tensor,
    num_tiles: Tensor,
    keys: Sequence[str],
    lengths: Sequence[int] | None = None,
) -> None:
    """Check that every sample has as many placeholders as its images have visual tokens.

    Args:
        input_ids: `[batch, length]`, or `[1, tokens]` of samples packed one after another.
        image_token_id: Id of the placeholder.
        expected: The model's visual tokens of each tile `[tiles]`.
        num_tiles: Tiles of each sample `[batch]`.
        keys: Sample keys, for the message.
        lengths: Tokens of each packed sample; None if each has a row.

    Raises:
        UserError: If a sample differs; names the first such, its tiles, and the numbers expected and found.
    """
    if input_ids.is_meta:
        return  # without values, as when FLOPs are counted
    places = input_ids == image_token_id
    found = places.sum(1) if lengths is None else torch.stack([part.sum() for part in places[0].split(list(lengths))])
    wanted = sums_by_sample(expected, num_tiles)
    wrong = (found != wanted.to(found.device)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise UserError(
            f"Sample {keys[first]!r} ({int(num_tiles[first])} tiles) has {int(found[first])} image placeholders for "
            f"{int(wanted[first])} visual tokens. Give data and model the same checkpoint and ratio."
        )
