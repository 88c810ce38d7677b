"""Lay prompts out anew, with other numbers of placeholders, when other numbers of visual tokens are asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fcot.errors import UserError


def tiles_shown(ids: Tensor, mask: Tensor | None, image_id: int, counts: Sequence[int]) -> list[list[int]]:
    """Return the tiles of each image of each prompt.

    Args:
        ids: Prompts `[batch, length]`; an image's placeholders are next to each other.
        mask: 1 on tokens, 0 on padding; None for all tokens.
        image_id: Id of the placeholder.
        counts: Placeholders of each tile in the ids, in order.

    Raises:
        UserError: If the ids do not have the placeholders of the tiles.
    """
    found, tiles = [], list(counts)
    for number, row in enumerate(ids):
        row = row if mask is None else row[mask[number].bool()]
        shown = []
        for length in runs(row, image_id):
            shown.append(0)
            while length > 0 and tiles:
                length -= tiles.pop(0)
                shown[-1] += 1
            if length:
                raise UserError(
                    f"Text {number} has an image of other than whole tiles of {sorted(set(counts))} placeholders.\n"
                    "Give generate the input_ids and tile_tokens of the same call of the processor."
                )
        found.append(shown)
    if tiles:
        raise UserError(f"{len(tiles)} tiles have no placeholders.\nGive each text as many images as it names.")
    return found


def laid_out_again(
    ids: Tensor, mask: Tensor | None, image_id: int, shown: Sequence[Sequence[int]], counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Give the pages of prompts other numbers of placeholders; return ids and mask, padded on the left.

    Args:
        ids: Prompts `[batch, length]`.
        mask: 1 on tokens, 0 on padding; None for all tokens.
        image_id: Id of the placeholder.
        shown: Tiles of each image of each prompt, as `tiles_shown` finds them.
        counts: New placeholders of each tile, in order `[tiles]`.
    """
    of_prompts = counts.split([sum(each) for each in shown])
    rows = []
    for number, (images, its) in enumerate(zip(shown, of_prompts, strict=True)):
        row = ids[number] if mask is None else ids[number][mask[number].bool()]
        rows.append(row[kept_places(row, image_id, images, its)])
    longest = max(len(row) for row in rows)
    padded, seen = (ids.new_zeros(len(rows), longest) for _ in range(2))
    for number, row in enumerate(rows):
        padded[number, longest - len(row) :], seen[number, longest - len(row) :] = row, 1
    return padded, seen


def kept_places(row: Tensor, image_id: int, images: Sequence[int], counts: Tensor) -> Tensor:
    """Return which token of a row stands at each place of the new layout, int64 `[new length]`.

    Args:
        row: Ids `[length]`.
        image_id: Id of the placeholder.
        images: Tiles of each image.
        counts: New placeholders of each of their tiles `[tiles]`.
    """
    new = [int(each.sum()) for each in counts.split(list(images))]
    kept, repeats = torch.unique_consecutive(row, return_counts=True)
    starts = repeats.cumsum(0) - repeats
    places, image = [], iter(new)
    for token, start, length in zip(kept.tolist(), starts.tolist(), repeats.tolist(), strict=True):
        if token == image_id:
            places.append(torch.full((next(image),), start))
        else:
            places.append(torch.arange(start, start + length))
    return torch.cat([torch.zeros(0, dtype=torch.int64), *places]).to(row.device)


def runs(row: Tensor, image_id: int) -> list[int]:
    """Return how many placeholders each image has in ids `[length]`."""
    kept, counts = torch.unique_consecutive(row, return_counts=True)
    found: list[int] = counts[kept == image_id].tolist()
    return found
