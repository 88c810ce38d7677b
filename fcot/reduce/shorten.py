"""Apply a reducer before the language model: a batch with fewer visual tokens, for a model that is left as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fcot.errors import UserError
from fcot.reduce.before import BeforeReducer
from fcot.reduce.seen import Kept, Seen
from fcot.reduce.tower import encoded, look, tokens_of_tile

Grid = tuple[int, int]


@dataclass(frozen=True)
class Span:
    """Where an image stands: the row of the batch, its first placeholder there, its first tile, how many it has."""

    row: int
    start: int
    tile: int
    tiles: int


def shorten(
    model: Any,
    inputs: Mapping[str, Tensor],
    reducer: BeforeReducer,
    grids: Sequence[Sequence[Grid]] | None = None,
    keys: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Reduce the visual tokens of a batch.

    The vision tower runs once; what it shows of each image is reduced alone, so that an image keeps the same tokens in
    any batch.

    Args:
        model: An `InternVLForConditionalGeneration`, or a `LlavaForConditionalGeneration`.
        inputs: `input_ids` and `attention_mask` `[batch, length]`, padded on either side, and `pixel_values`
            `[tiles, 3, S, S]` of all images in order, unless there is only text.
        reducer: Says what remains of an image.
        grids: (rows, columns) of tiles of each image of each row, thumbnail not counted; only some reducers ask.
        keys: Key of each row's sample, for reducers that work by chance.

    Returns:
        What `model(**…)` and `model.generate(**…)` take: `input_ids`, `attention_mask` and `position_ids`, padded on
        the left, and the visual tokens as `mm_encoder_outputs`.

    Raises:
        UserError: If images, tiles and placeholders do not go together, or the reducer cannot work on an image.
    """
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    spans = find_images(model, ids, real, inputs.get("pixel_values"))
    left = reduce_images(model, inputs["pixel_values"], spans, reducer, grids, keys) if spans else []
    places = real.cumsum(1) - 1  # of each token among those of its row
    kept_ids, kept_places = [], []
    for row in range(len(ids)):
        stays = real[row].clone()
        for span, each in zip(spans, left, strict=True):
            if span.row == row:
                stays[span.start : span.start + span.tiles * tokens_of_tile(model.config)] = False
                stays[span.start + each.places] = True
        kept_ids.append(ids[row, stays])
        kept_places.append(places[row, stays] if reducer.positions == "original" else torch.arange(len(kept_ids[-1])))
    shortened: dict[str, Any] = {
        "input_ids": left_pad(kept_ids, model.config.text_config.pad_token_id or 0),
        "attention_mask": left_pad([torch.ones_like(each) for each in kept_ids], 0),
        "position_ids": left_pad([each.to(ids.device) for each in kept_places], 0),
    }
    if left:
        shortened["mm_encoder_outputs"] = {"image": encoded(model, projected(model, left))}
    return shortened


def find_images(model: Any, ids: Tensor, real: Tensor, pixel_values: Tensor | None) -> list[Span]:
    """Find the images of a batch: each is one run of placeholders, as `<img>` and `</img>` stand around it.

    Raises:
        UserError: If a run is no whole number of tiles, or tiles and placeholders differ in number.
    """
    per_tile = tokens_of_tile(model.config)
    visual = ((ids == model.config.image_token_id) & real).int()
    edges = visual.diff(dim=1, prepend=torch.zeros_like(visual[:, :1]), append=torch.zeros_like(visual[:, :1]))
    spans, tile = [], 0
    starts, ends = (edges == 1).nonzero().tolist(), (edges == -1).nonzero().tolist()
    for (row, start), (_, end) in zip(starts, ends, strict=True):
        if (end - start) % per_tile:
            raise UserError(
                f"Row {row} of the batch has {end - start} image placeholders in a row, and a tile has {per_tile}. "
                "Data and model must be given the same checkpoint, and its visual tokens must not be reduced already."
            )
        spans.append(Span(row, start, tile, (end - start) // per_tile))
        tile += spans[-1].tiles
    given = 0 if pixel_values is None else len(pixel_values)
    if tile != given:
        raise UserError(f"The batch has placeholders for {tile} tiles, and {given} tiles. Give the tiles of all rows.")
    return spans


def reduce_images(
    model: Any,
    pixel_values: Tensor,
    spans: Sequence[Span],
    reducer: BeforeReducer,
    grids: Sequence[Sequence[Grid]] | None,
    keys: Sequence[str] | None,
) -> list[Kept]:
    """Return what remains of each image, in the order of the batch."""
    with torch.no_grad():
        features, attention = look(model, pixel_values, reducer.layers)
        kept, image, row = [], 0, -1
        for span in spans:
            image = image + 1 if span.row == row else 0
            row = span.row
            tiles = slice(span.tile, span.tile + span.tiles)
            shown: dict[str, Any] = {name: layer.tiles(tiles) for name, layer in attention.items()}
            seen = Seen(
                features=features[tiles],
                project=model.model.multi_modal_projector,
                grid=grids[row][image] if grids is not None else None,
                key=keys[row] if keys is not None else "",
                image=image,
                **shown,
            )
            each = reducer.reduce(seen)
            kept.append(each.by_place() if reducer.positions == "original" else each)
    return kept


def projected(model: Any, kept: Sequence[Kept]) -> Tensor:
    """Return the rows that the language model reads `[tokens, H]`, all of the batch projected at once."""
    rows = torch.cat([each.rows for each in kept])
    with torch.no_grad():
        return rows if kept[0].projected else model.model.multi_modal_projector(rows)


def left_pad(rows: Sequence[Tensor], value: int) -> Tensor:
    """Stack rows of unequal length into `[rows, longest]`, padded on the left."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value, padding_side="left")
