"""Answer turn by turn: the vision tower sees the pages once, and each turn reuses the cache of earlier ones."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Batch, Segments
from fcot.models.decoder import fill_cache
from fcot.models.generation import Answerer, positions_of, stop_tokens, until
from fcot.models.sampling import Sampling
from fcot.models.transformers_api import CACHE


class Conversation:
    """One conversation, with the features and the cache of what the model has read.

    Args:
        pair: The models.
        tiles: Tiles of all pages, uint8 `[tiles, 3, S, S]` on the model's device.
        counts: Visual tokens of each tile, int64 `[tiles]` on the CPU.
        branch: Branch of the model that answers.
    """

    def __init__(self, pair: Answerer, tiles: Tensor, counts: Tensor, branch: str = "student") -> None:
        self.pair, self.branch, self.counts = pair, branch, counts
        self.page = Batch(
            keys=["the conversation"],
            tasks=[""],
            questions=[""],
            references=[[]],
            num_tiles=torch.tensor([len(tiles)]),
            tiles=tiles,
            tile_tokens={branch: counts},
        )
        with torch.no_grad():
            self.features = pair.features(tiles)
        self.read: list[int] = []  # ids whose keys and values the cache holds
        self.cache: Any = None

    @torch.no_grad()
    def answer(self, prompt: Sequence[int], sampling: Sampling | None = None, **generation: Any) -> list[int]:
        """Answer a prompt; the part that earlier turns have read is not read again.

        Args:
            prompt: Ids of the whole conversation up to the answer.
            sampling: How to draw; None is greedy.
            generation: Options of transformers' `generate`, such as `max_new_tokens`.

        Returns:
            Ids of the answer, without the end token.
        """
        ids, language = list(prompt), self.pair.student.model.language_model
        image_id = self.pair.student.config.image_token_id
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.read, ids[:-1], strict=False)))
        row = torch.tensor([ids], device=self.features.device)
        mask = torch.ones_like(row)
        where = positions_of(self.pair, self.branch, row, mask, self.counts)
        if self.cache is None or image_id in ids[kept:]:
            segments = Segments((len(ids) - 1,), (0,))
            embeddings = self.pair.embed(self.branch, self.page, row[:, :-1], self.features)
            self.cache = fill_cache(language, embeddings, where[:, :-1], segments)
            kept = len(ids) - 1
        self._forget_behind(ids[:kept])
        beams = generation.get("num_beams", 1)
        if beams > 1:  # `generate` repeats all inputs but the cache
            self.cache.batch_repeat_interleave(beams)
        options = (sampling or Sampling()).options([ids], [self.page.tiles])
        try:
            whole = self.pair.student.generate(
                input_ids=row,
                attention_mask=mask,
                position_ids=where,
                do_sample=False,
                **{CACHE: self.cache},
                **options,
                **generation,
            )[0].tolist()
            self.read = whole[: self.cache.get_seq_length()]
        finally:
            if beams > 1:
                self.cache.batch_select_indices(torch.zeros(1, dtype=torch.int64, device=row.device))
            if beams > 1 or self.read == ids[:kept]:  # stopped by Ctrl-C: the prompt's cache is still valid
                self._forget_behind(ids[:kept])
        return until(whole[len(ids) :], stop_tokens(self.pair))

    def _forget_behind(self, ids: list[int]) -> None:
        """Crop the cache to these ids, its first ones."""
        behind = self.cache.get_seq_length() - len(ids)
        if behind > 0:
            self.cache.crop(-behind)  # transformers 5.24 does not take the length to keep
        self.read = ids
