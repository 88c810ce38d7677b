"""Apply a reducer before the language model: a batch with fewer visual tokens, for a model that is left as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fcot.reduce.before import BeforeReducer
from fcot.reduce.seen import Kept, Seen
from fcot.reduce.spans import Span, find_images, tiles_of
from fcot.reduce.tower import encoded, look

Grid = tuple[int, int]


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

    LLaVA-NeXT removes tokens of padding: a reducer neither counts them nor chooses among them. What is left stands in
    the rows of the page, a merged token at the place it stands for. The newlines behind these rows stay only in an
    image of which nothing is dropped.

    Args:
        model: An `InternVLForConditionalGeneration`, a `LlavaForConditionalGeneration` or a
            `LlavaNextForConditionalGeneration`.
        inputs: `input_ids` and `attention_mask` `[batch, length]`, padded on either side, and `pixel_values`
            `[tiles, 3, S, S]` of all images in order, unless there is only text; for LLaVA-NeXT
            `[images, most tiles, 3, S, S]`, with `image_sizes` `[images, 2]`.
        reducer: Says what remains of an image.
        grids: (rows, columns) of tiles of each image of each row, thumbnail not counted; only some reducers ask, and
            none of a LLaVA-NeXT, whose image sizes say it.
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
    spans = find_images(model, ids, real, inputs.get("pixel_values"), inputs.get("image_sizes"))
    left = reduce_images(model, tiles_of(spans, inputs), spans, reducer, grids, keys) if spans else []
    places = real.cumsum(1) - 1  # of each token among those of its row
    kept_ids, kept_places = [], []
    for row in range(len(ids)):
        stays = real[row].clone()
        for span, each in zip(spans, left, strict=True):
            if span.row == row:
                stays[span.placeholders] = span.remaining(each)
        kept_ids.append(ids[row, stays])
        kept_places.append(places[row, stays] if reducer.positions == "original" else torch.arange(len(kept_ids[-1])))
    shortened: dict[str, Any] = {
        "input_ids": left_pad(kept_ids, model.config.text_config.pad_token_id or 0),
        "attention_mask": left_pad([torch.ones_like(each) for each in kept_ids], 0),
        "position_ids": left_pad([each.to(ids.device) for each in kept_places], 0),
    }
    if left:
        shortened["mm_encoder_outputs"] = {"image": encoded(model, projected(model, spans, left))}
    return shortened


def reduce_images(
    model: Any,
    pixel_values: Tensor,
    spans: Sequence[Span],
    reducer: BeforeReducer,
    grids: Sequence[Sequence[Grid]] | None,
    keys: Sequence[str] | None,
) -> list[Kept]:
    """Return what remains of each image, in the order of the batch; tiles come as `[tiles, 3, S, S]`."""
    with torch.no_grad():
        features, attention = look(model, pixel_values, reducer.layers)
        kept, image, row = [], 0, -1
        for span in spans:
            image = image + 1 if span.row == row else 0
            row = span.row
            tiles = slice(span.tile, span.tile + span.tiles)
            shown: dict[str, Any] = {name: layer.tiles(tiles) for name, layer in attention.items()}
            if span.stitched:
                shown |= {"counted": span.counted(features.shape[1]).view(span.tiles, -1), "thumbnail": 0}
            seen = Seen(
                features=features[tiles],
                project=model.model.multi_modal_projector,
                grid=span.grid or (grids[row][image] if grids is not None else None),
                key=keys[row] if keys is not None else "",
                image=image,
                **shown,
            )
            each = reducer.reduce(seen)
            kept.append(span.in_order(each) if span.stitched or reducer.positions == "original" else each)
    return kept


def projected(model: Any, spans: Sequence[Span], kept: Sequence[Kept]) -> Tensor:
    """Return the rows that the language model reads `[tokens, H]`, all of the batch projected at once."""
    rows = torch.cat([each.rows for each in kept])
    with torch.no_grad():
        rows = rows if kept[0].projected else model.model.multi_modal_projector(rows)
        if not spans[0].stitched:
            return rows
        images = zip(spans, kept, rows.split([len(each.places) for each in kept]), strict=True)
        return torch.cat([span.with_newlines(part, each, model.model.image_newline) for span, each, part in images])


def left_pad(rows: Sequence[Tensor], value: int) -> Tensor:
    """Stack rows of unequal length into `[rows, longest]`, padded on the left."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value, padding_side="left")
