"""Batch prepared samples."""

from collections.abc import Sequence

import numpy as np
import torch

from fcot.batch import Batch, PageLayout, Sequences, answer_positions
from fcot.internvl.tokens import IGNORED, Encoded, expand, pad
from shards.decode import Prepared


def collate(samples: Sequence[Prepared], layout: PageLayout) -> Batch:
    """Batch prepared samples, ids padded for each side of the layout."""
    image_id, fill = layout.encoder.image_token_id, layout.encoder.tokenizer.pad_token_id

    def side(tokens: int) -> Sequences:
        ids, labels = zip(*(expand(sample.encoded, tokens, image_id) for sample in samples), strict=True)
        prompts = [sample.prompt for sample in samples if sample.prompt is not None]
        rows = [expand(prompt, tokens, image_id)[0] for prompt in prompts]
        padded = pad(labels, IGNORED)
        return Sequences(
            input_ids=pad(ids, fill),
            labels=padded,
            answers=answer_positions(padded),
            prompt_ids=pad(rows, fill, left=True) if rows else None,
            prompt_mask=pad([np.ones_like(row) for row in rows], 0, left=True) if rows else None,
        )

    return Batch(
        keys=[sample.key for sample in samples],
        tasks=[sample.task for sample in samples],
        questions=[sample.question for sample in samples],
        references=[sample.references for sample in samples],
        num_tiles=torch.tensor([len(sample.tiles) for sample in samples]),
        tiles=torch.cat([sample.tiles for sample in samples]),
        sequences={name: side(tokens) for name, tokens in layout.tokens_per_tile.items()},
    )


def idle_batch(layout: PageLayout) -> Batch:
    """Return a batch that teaches nothing, for a rank without a sample in a step that other ranks take.

    All ranks must take part in a step, with all that learns, or the others wait for ever: a black tile and a
    conversation no token of which is learned. Its key is empty.
    """
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "-"}]
    encoded = layout.encoder.encode(turns, [1])
    nothing = Encoded(encoded.ids, np.full_like(encoded.labels, IGNORED), (1,))
    tile = torch.zeros(1, 3, layout.tile_size, layout.tile_size, dtype=torch.uint8)
    return collate([Prepared("", "none", "-", ["-"], tile, nothing, None)], layout)
