"""What one forward pass does at each stage of a reducer: show it the attention, let it select, pad and mask anew.

A pass knows its tokens; what later passes have to know lies on the cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

from fcot.reduce.chunk import Chunk
from fcot.reduce.inside import InsideReducer, Row, Selection

CACHE_NAMES = ("cache", "past_key_values")  # what layers call the cache, in transformers 5.24 and before


@dataclass
class StageMask:
    """What a cache holds from a stage on.

    Attributes:
        mask: Which of its places are tokens and no padding `[rows, length]`.
        padded: Not all are. Asked of the device as a prompt is read, not at each token of the answer.
    """

    mask: Tensor
    padded: bool


def cache_of(given: Mapping[str, Any]) -> Any:
    """Return the cache among the arguments of a model or layer, if any."""
    return next((given[name] for name in CACHE_NAMES if given.get(name) is not None), None)


def stage_masks(cache: Any) -> dict[int, StageMask]:
    """Return what a cache holds from each stage on, to be written to; a new dictionary without a cache."""
    return {} if cache is None else cache.__dict__.setdefault("reduced_stages", {})


class Probe:
    """Takes queries and keys from an attention layer that need not attend."""

    attends = False
    query: Tensor
    key: Tensor
    scaling: float

    def observe(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> None:
        """Keep what a layer made of its input."""
        self.query, self.key, self.scaling = query, key, scaling


class Pass:
    """One forward pass of a model whose visual tokens are reduced.

    Args:
        reducer: What drops and merges.
        language: The language model.
        chunk: The tokens of this pass.
        before: Which of the places before them in the cache are tokens `[rows, past]`.
    """

    attends = True

    def __init__(self, reducer: InsideReducer, language: Any, chunk: Chunk, before: Tensor) -> None:
        self.reducer, self.language, self.chunk, self.before = reducer, language, chunk, before
        self.num_layers = language.config.num_hidden_layers
        self.stages = reducer.stages(self.num_layers)
        self.cuts = any(chunk.images)
        self.observed: list[Tensor | None] = []
        self.entering: tuple[Tensor, Tensor] | None = None
        self.current: dict[str, Any] = {}

    def observe(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> None:
        """See a layer's queries and keys, if the reducer cuts behind it."""
        if self.cuts and layer + 1 in self.stages and self.reducer.observes and not self.reducer.own_layer:
            assert self.entering is not None
            self._score(self.stages.index(layer + 1), *self.entering, query, key, scaling)

    @torch.no_grad()
    def _score(self, stage: int, hidden: Tensor, positions: Tensor, query: Tensor, key: Tensor, scaling: float) -> None:
        """Let the reducer see queries and keys of each row, padding left out."""
        keys = torch.cat([self.before, self.chunk.mask], 1)
        self.observed = [
            self.reducer.observe(
                self._row(i, hidden, positions, stage),
                query[i, :, self.chunk.mask[i]],
                key[i, :, keys[i]],
                scaling,
            )
            if images
            else None
            for i, images in enumerate(self.chunk.images)
        ]

    def _row(self, i: int, hidden: Tensor, positions: Tensor, stage: int) -> Row:
        return self.chunk.row(i, hidden, positions, stage, self.num_layers, self.language.norm)

    def enter(self, number: int, layer: Any, hidden: Tensor, given: Mapping[str, Any]) -> Tensor:
        """Do what is to be done before a layer, and return its input `[rows, length, width]`.

        Args:
            number: Of the layer.
            layer: The layer.
            hidden: Its input.
            given: Its other arguments; those in `current` are to replace them.
        """
        if self.chunk.embeddings is None:
            self.chunk.embeddings = hidden
        if number in self.stages:
            hidden = self._stage(number, layer, hidden, {**given, **self.current})
        if self.cuts and number + 1 in self.stages:
            positions = self.current.get("position_ids", given["position_ids"])
            self.entering = hidden, positions.expand(hidden.shape[0], -1)
        return hidden

    def _stage(self, number: int, layer: Any, hidden: Tensor, given: Mapping[str, Any]) -> Tensor:
        cache, positions, rotary = cache_of(given), given["position_ids"], given["position_embeddings"]
        positions, renumbered = positions.expand(hidden.shape[0], -1), self.reducer.positions == "renumbered"
        held = stage_masks(cache)
        state = held.get(number)
        if state is not None:  # less may be there than it says, after a crop
            self.before = state.mask[:, : cache.get_seq_length(number)]
        if self.cuts:
            if renumbered and self.before.shape[1]:
                positions, rotary = self._renumber(hidden)
            if self.reducer.own_layer:
                self._probe(number, layer, hidden, positions, rotary, cache)
            hidden, positions, rotary = self._cut(self.stages.index(number), hidden, positions, rotary)
        if renumbered:
            positions, rotary = self._renumber(hidden)
        mask = torch.cat([self.before, self.chunk.mask], 1)
        padded = state.padded if state is not None and hidden.shape[1] == 1 else not bool(mask.all())
        held[number] = StageMask(mask, padded)
        attention = create_causal_mask(
            self.language.config, hidden, mask if padded else None, cache, position_ids=None, layer_idx=number
        )
        self.current = {"attention_mask": attention, "position_ids": positions, "position_embeddings": rotary}
        return hidden

    def _renumber(self, hidden: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return positions that count the tokens of a stage, its cache included, and their cosines and sines."""
        positions = self.before.sum(1, keepdim=True) + (self.chunk.mask.long().cumsum(1) - 1).clamp(min=0)
        return positions, self.language.rotary_emb(hidden, positions)

    def _probe(
        self, number: int, layer: Any, hidden: Tensor, positions: Tensor, rotary: Any, cache: Cache | None
    ) -> None:
        """Let the reducer see the queries and keys that a layer is about to make; its cache stays as it is."""
        probe, past = Probe(), self.before.shape[1]
        with torch.no_grad():
            normed = layer.input_layernorm(hidden)
            layer.self_attn(normed, position_embeddings=rotary, attention_mask=None, reduction=probe)
        key = probe.key
        if past and cache is not None:
            key = torch.cat([cache.layers[number].keys[:, :, -past:], key], 2)
        self._score(self.stages.index(number), hidden, positions, probe.query, key, probe.scaling)

    def _cut(self, stage: int, hidden: Tensor, positions: Tensor, rotary: Any) -> tuple[Tensor, Tensor, Any]:
        """Let the reducer select from each row, and leave what it selects."""
        selections, orders = [], []
        observed = self.observed or [None] * len(self.chunk.images)
        for i, images in enumerate(self.chunk.images):
            row = self._row(i, hidden, positions, stage)
            selection = self.reducer.select(row, observed[i]) if images else Selection(row.places())
            selections.append(selection)
            orders.append(selection.order(row, self.reducer.positions == "renumbered"))
        return self.chunk.cut(orders, selections, hidden, positions, rotary)
