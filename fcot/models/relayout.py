"""Lay prompts out anew, with other numbers of placeholders, when other numbers of visual tokens are asked for."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fcot.errors import UserError


def laid_out_again(
    ids: Tensor, mask: Tensor | None, image_id: int, counts: Sequence[int], asked: Callable[[int], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the pages of prompts other numbers of placeholders.

    Args:
        ids: Prompts `[batch, length]`; an image's placeholders are next to each other.
        mask: 1 on tokens, 0 on padding; None for all tokens.
        image_id: Id of the placeholder.
        counts: Placeholders of each tile in the ids, in order.
        asked: Returns the new ones of a prompt's tiles, `[tiles]`, given their number.

    Returns:
        Ids and mask, padded on the left, and the new placeholders of each tile.

    Raises:
        UserError: If the ids do not have the placeholders of the tiles.
    """
    rows, new, tiles = [], [torch.zeros(0, dtype=torch.int64)], list(counts)
    for number, row in enumerate(ids):
        row = row if mask is None else row[mask[number].bool()]
        kept, images = without_repeats(row, image_id)
        shown = []  # tiles of each image
        for length in images:
            shown.append(0)
            while length > 0 and tiles:
                length -= tiles.pop(0)
                shown[-1] += 1
            if length:
                raise UserError(
                    f"Text {number} has an image of other than whole tiles of {sorted(set(counts))} placeholders.\n"
                    "Give generate the input_ids and tile_tokens of the same call of the processor."
                )
        its = asked(sum(shown))
        repeats = torch.ones_like(kept)
        repeats[kept == image_id] = torch.stack([each.sum() for each in its.split(shown)]).to(kept) if shown else 0
        rows.append(kept.repeat_interleave(repeats))
        new.append(its)
    if tiles:
        raise UserError(f"{len(tiles)} tiles have no placeholders.\nGive each text as many images as it names.")
    longest = max(len(row) for row in rows)
    padded, seen = (ids.new_zeros(len(rows), longest) for _ in range(2))
    for number, row in enumerate(rows):
        padded[number, longest - len(row) :], seen[number, longest - len(row) :] = row, 1
    return padded, seen, torch.cat(new)


def without_repeats(row: Tensor, image_id: int) -> tuple[Tensor, list[int]]:
    """Return ids with one placeholder an image, and how many each image had."""
    kept, counts = torch.unique_consecutive(row, return_counts=True)
    repeats = torch.where(kept == image_id, 1, counts)
    return kept.repeat_interleave(repeats), counts[kept == image_id].tolist()
