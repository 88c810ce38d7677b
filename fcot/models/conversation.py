"""Answer turn by turn: the vision tower sees the pages once, and each turn reuses the cache of earlier ones."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Batch, Segments
from fcot.models.decoder import fill_cache
from fcot.models.generation import stop_tokens, until
from fcot.models.prefix import Answerer, positions_of
from fcot.models.reduced_pages import Prompts, kept_positions, reduced_prompts, whole_prompts
from fcot.models.reduced_prefix import PackedPass, reducing, without_last
from fcot.models.sampling import Sampling
from fcot.models.transformers_api import CACHE
from fcot.reduce import BeforeReducer, InsideReducer, Reducer


class Conversation:
    """One conversation, with the features and the cache of what the model has read.

    Args:
        pair: The models.
        tiles: Tiles of all pages, uint8 `[tiles, 3, S, S]` on the model's device.
        counts: Visual tokens of each tile, int64 `[tiles]` on the CPU.
        branch: Branch of the model that answers.
        reducer: Drops or merges visual tokens.
        grids: Columns and rows of the tiles of each page.
        features: Vision features of the tiles, if they are already computed.
    """

    def __init__(
        self,
        pair: Answerer,
        tiles: Tensor,
        counts: Tensor,
        branch: str = "student",
        reducer: Reducer | None = None,
        grids: Sequence[tuple[int, int]] = (),
        features: Tensor | None = None,
    ) -> None:
        self.pair, self.branch, self.counts, self.reducer = pair, branch, counts, reducer
        self.page = Batch(
            keys=["the conversation"],
            tasks=[""],
            questions=[""],
            references=[[]],
            num_tiles=torch.tensor([len(tiles)]),
            tiles=tiles,
            tile_tokens={branch: counts},
            grids=[list(grids)] if grids else [],
            features=features,
        )
        self.inside = reducer if isinstance(reducer, InsideReducer) else None
        self.prompts: Prompts | None = None  # the first prompt, its pages looked at
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
        whole_ids, index = list(prompt), self._left_of(list(prompt))
        ids = [whole_ids[i] for i in index.tolist()]
        image_id = self._image_id
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.read, ids[:-1], strict=False)))
        row = torch.tensor([ids], device=self.page.tiles.device)
        mask = torch.ones_like(row)
        where = self._positions(whole_ids, index)[None]
        if self.cache is None or image_id in ids[kept:]:
            self.cache, kept = self._read(row, where), len(ids) - 1
        self._forget_behind(ids[:kept])
        beams = generation.get("num_beams", 1)
        if beams > 1:  # `generate` repeats all inputs but the cache
            self.cache.batch_repeat_interleave(beams)
        options = (sampling or Sampling()).options([ids], [self.page.tiles])
        try:
            with reducing(self.pair.student, self.inside):
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

    def _read(self, ids: Tensor, positions: Tensor) -> Any:
        """Return the keys and values of all but the last of the tokens `[1, length]`."""
        language, image_id = self.pair.student.model.language_model, self._image_id
        assert self.prompts is not None
        embeddings = replace(self.prompts, ids=ids.tolist()).embeddings(self.pair.student)
        length = ids.shape[1]
        if self.inside is None:
            segments = Segments((length - 1,), (0,))
            return fill_cache(language, embeddings[:, :-1], positions[:, :-1], segments)
        reading = PackedPass(self.inside, language, Segments((length,), (0,)), ids[0] == image_id, ids[0])
        cache, left = reading.run(embeddings, positions)
        return without_last(cache, self.inside, left, [0])

    def _left_of(self, prompt: list[int]) -> Tensor:
        """Return which tokens of a prompt the language model reads `[left]`; the first time, look at the pages."""
        if self.prompts is None:
            given = (self.pair, self.page, self.branch, [0], [prompt])
            if isinstance(self.reducer, BeforeReducer):
                self.prompts = reduced_prompts(*given, self.reducer)
            else:
                self.prompts = whole_prompts(*given)
            self.end = 1 + max((i for i, token in enumerate(prompt) if token == self._image_id), default=-1)
        (index,) = self.prompts.index
        text = torch.arange(self.end, len(prompt), device=index.device)
        return torch.cat([index[: int((index < self.end).sum())], text])

    def _positions(self, prompt: list[int], index: Tensor) -> Tensor:
        """Return the positions of those of a prompt's tokens that are left."""
        row = torch.tensor([prompt], device=index.device)
        whole = positions_of(self.pair, self.branch, row, torch.ones_like(row), self.counts)[0]
        if isinstance(self.reducer, BeforeReducer):
            return kept_positions(self.reducer, whole, index)
        return whole

    @property
    def _image_id(self) -> int:
        return int(self.pair.student.config.image_token_id)

    def _forget_behind(self, ids: list[int]) -> None:
        """Crop the cache to these ids, its first ones."""
        behind = self.cache.get_seq_length() - len(ids)
        if behind > 0:
            self.cache.crop(-behind)  # transformers 5.24 does not take the length to keep
        self.read = ids
