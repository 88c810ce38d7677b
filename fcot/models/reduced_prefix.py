"""Read packed prompts while a reducer drops visual tokens between layers, and hold what is left for generation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from fcot.batch import Segments
from fcot.models.transformers_api import CACHE
from fcot.reduce import reduced
from fcot.reduce.chunk import Chunk
from fcot.reduce.forward_pass import Probe, StageMask, stage_masks
from fcot.reduce.inside import InsideReducer, Selection


class PackedPass:
    """A forward pass over samples packed in one row, whose visual tokens are reduced.

    Args:
        reducer: What drops and merges.
        language: The language model, after `allow_packing`.
        segments: Where samples begin and end.
        visual: Which tokens are visual `[tokens]`.
        ids: Of the tokens `[tokens]`.
    """

    attends = True

    def __init__(self, reducer: InsideReducer, language: Any, segments: Segments, visual: Tensor, ids: Tensor) -> None:
        self.reducer, self.language, self.segments = reducer, language, segments
        self.num_layers = language.config.num_hidden_layers
        self.stages = reducer.stages(self.num_layers)
        parts = zip(visual.split(segments.lengths), ids.split(segments.lengths), strict=True)
        self.chunks = [Chunk.begin(torch.ones_like(each)[None], each[None], own[None]) for each, own in parts]
        self.entering: tuple[Tensor, Tensor] | None = None
        self.observed: list[Tensor | None] = [None] * len(self.chunks)

    def observe(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> None:
        """See a layer's queries and keys, if the reducer cuts behind it."""
        if layer + 1 in self.stages and self.reducer.observes and not self.reducer.own_layer:
            assert self.entering is not None
            self._score(self.stages.index(layer + 1), *self.entering, query, key, scaling)

    def run(self, embeddings: Tensor, positions: Tensor) -> tuple[DynamicCache, list[tuple[int, ...]]]:
        """Read the samples.

        Args:
            embeddings: `[1, tokens, width]`.
            positions: Of each token in its sample `[1, tokens]`.

        Returns:
            Keys and values of what is left in each layer, and how many tokens of each sample that is.
        """
        cache, lengths, hidden = DynamicCache(config=self.language.config), [], embeddings
        rotary = self.language.rotary_emb(embeddings, positions)
        for chunk, part in zip(self.chunks, self._split(embeddings), strict=True):
            chunk.embeddings = part
        for number, layer in enumerate(self.language.layers[: self.num_layers]):
            if number in self.stages:
                hidden, positions, rotary = self._stage(number, layer, hidden, positions, rotary)
            self.entering = hidden, positions
            hidden = layer(
                hidden,
                position_embeddings=rotary,
                position_ids=positions,
                segments=self.segments,
                reduction=self,
                **{CACHE: cache},
            )
            lengths.append(self.segments.lengths)
        return cache, lengths

    def _split(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Split `[1, tokens, …]` by sample."""
        parts: tuple[Tensor, ...] = tokens.split(self.segments.lengths, dim=1)
        return parts

    @torch.no_grad()
    def _score(self, stage: int, hidden: Tensor, positions: Tensor, query: Tensor, key: Tensor, scaling: float) -> None:
        """Let the reducer see the queries and keys of each sample."""
        lengths = self.segments.lengths
        parts = (self._split(hidden), self._split(positions), query.split(lengths, 2), key.split(lengths, 2))
        self.observed = [
            self.reducer.observe(self._row(i, its_hidden, its_positions, stage), its_query[0], its_key[0], scaling)
            if any(self.chunks[i].images)
            else None
            for i, (its_hidden, its_positions, its_query, its_key) in enumerate(zip(*parts, strict=True))
        ]

    def _row(self, i: int, hidden: Tensor, positions: Tensor, stage: int) -> Any:
        return self.chunks[i].row(0, hidden, positions, stage, self.num_layers, self.language.norm)

    def _stage(
        self, number: int, layer: Any, hidden: Tensor, positions: Tensor, rotary: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Let the reducer select from each sample before a layer, and leave what it selects."""
        stage, renumbered = self.stages.index(number), self.reducer.positions == "renumbered"
        if self.reducer.own_layer:
            probe = Probe()
            with torch.no_grad():
                normed = layer.input_layernorm(hidden)
                layer.self_attn(normed, position_embeddings=rotary, attention_mask=None, reduction=probe)
            self._score(stage, hidden, positions, probe.query, probe.key, probe.scaling)
        cos, sin = rotary
        parts = (self._split(each) for each in (hidden, positions, cos, sin))
        left = []
        for i, (its_hidden, its_positions, its_cos, its_sin) in enumerate(zip(*parts, strict=True)):
            row, chunk = self._row(i, its_hidden, its_positions, stage), self.chunks[i]
            selection = self.reducer.select(row, self.observed[i]) if any(chunk.images) else Selection(row.places())
            order = selection.order(row, renumbered)
            left.append(chunk.cut([order], [selection], its_hidden, its_positions, (its_cos, its_sin)))
        lengths = tuple(each.shape[1] for each, _, _ in left)
        self.segments = Segments(lengths, self.segments.counts)
        hidden = torch.cat([each for each, _, _ in left], 1)
        if renumbered:
            positions = torch.cat([torch.arange(length, device=hidden.device) for length in lengths])[None]
            return hidden, positions, self.language.rotary_emb(hidden, positions)
        cos, sin = (torch.cat([each[part] for _, _, each in left], 1) for part in (0, 1))
        return hidden, torch.cat([each for _, each, _ in left], 1), (cos, sin)


def without_last(
    cache: DynamicCache, reducer: InsideReducer | None, lengths: Sequence[tuple[int, ...]], rows: Sequence[int]
) -> Any:
    """Take the last token of each prompt off a cache: generation goes on from it, and no reducer drops it.

    Args:
        cache: Of whole prompts, a row each, padded on the left in each layer.
        reducer: What dropped tokens between layers, if anything did.
        lengths: Tokens that each layer has of each sample, the last one counted.
        rows: Which sample each row of the cache takes.

    Returns:
        The cache, which says what is padding from each stage on.
    """
    cache.crop(-1)
    if reducer is None:
        return cache
    device, masks = cache.layers[0].keys.device, stage_masks(cache)
    for stage in reducer.stages(len(lengths)):
        held = torch.tensor([lengths[stage][row] - 1 for row in rows], device=device)
        longest = max(lengths[stage]) - 1
        mask = torch.arange(longest, device=device) >= longest - held[:, None]
        masks[stage] = StageMask(mask, padded=len({lengths[stage][row] for row in rows}) > 1)
    return cache


@contextmanager
def reducing(model: Any, reducer: InsideReducer | None) -> Iterator[None]:
    """Let a reducer, if there is one, act in a model for a while."""
    if reducer is None:
        yield
    else:
        with reduced(model, reducer):
            yield
