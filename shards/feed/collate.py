"""Batch prepared samples."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fcot.batch import Batch, PageLayout, Sequences
from fcot.internvl.encoder import IGNORED, Encoded, expand
from shards.feed.decode import Prepared
from shards.feed.packing import pack


def collate(
    samples: Sequence[Prepared], layout: PageLayout, token_budget: int | None = None, tile_budget: int = 0
) -> Batch:
    """Batch prepared samples for each branch of the layout.

    Args:
        samples: At least one.
        layout: What the models need.
        token_budget: Pack samples without padding, on each branch at most so many tokens in a pack; None to pad them.
        tile_budget: Most tiles in a pack; 0 for any number.
    """
    image_id, fill = layout.encoder.image_token_id, layout.encoder.tokenizer.pad_token_id

    def branch(counts: Sequence[Tensor]) -> Sequences:
        rows = [expand(sample.encoded, each, image_id) for sample, each in zip(samples, counts, strict=True)]
        if token_budget is not None:
            lengths, tiles = [len(ids) for ids, _ in rows], [len(sample.tiles) for sample in samples]
            return Sequences.packed(rows, pack(lengths, token_budget, tiles, tile_budget))
        asked = [(sample.prompt, each) for sample, each in zip(samples, counts, strict=True) if sample.prompt]
        return Sequences.padded(rows, fill, [expand(prompt, each, image_id)[0] for prompt, each in asked])

    counts = {
        name: [layout.counts(name, sample.tiles, sample.seed, sample.encoded.tiles) for sample in samples]
        for name in layout.tokens_per_tile
    }
    return Batch(
        keys=[sample.key for sample in samples],
        tasks=[sample.task for sample in samples],
        questions=[sample.question for sample in samples],
        references=[sample.references for sample in samples],
        num_tiles=torch.tensor([len(sample.tiles) for sample in samples]),
        tiles=torch.cat([sample.tiles for sample in samples]),
        sequences={name: branch(each) for name, each in counts.items()},
        tile_tokens={name: torch.cat(each) for name, each in counts.items()},
        grids=grids_of(samples),
        ids=[sample.id for sample in samples],
    )


def grids_of(samples: Sequence[Prepared]) -> list[list[tuple[int, int]]]:
    """Return columns and rows of each image's tiles, by sample; none if they are not known of all."""
    known = all(len(sample.grids) == len(sample.encoded.tiles) for sample in samples)
    return [list(sample.grids) for sample in samples] if known else []


def idle_batch(layout: PageLayout, *, with_prompt: bool = False) -> Batch:
    """Return a batch without gradients, for a rank that has no sample in a step that other ranks take.

    All ranks must take part in a step with every trainable parameter, or the others wait for ever. So the batch has a
    black tile and a conversation without any answer token to learn. Its key is empty.

    Args:
        layout: What the models need.
        with_prompt: Add a prompt for generation.
    """
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "-"}]
    encoded = layout.encoder.encode(turns, [1])
    nothing = Encoded(encoded.ids, np.full_like(encoded.labels, IGNORED), (1,))
    prompt = layout.encoder.encode(turns, [1], prompt_only=True) if with_prompt else None
    tile = torch.zeros(1, 3, layout.tile_size, layout.tile_size, dtype=torch.uint8)
    return collate([Prepared("", "none", "-", ["-"], tile, nothing, prompt)], layout)
