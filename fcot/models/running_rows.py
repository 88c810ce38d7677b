"""Rows that are answered together and may join and leave between any two tokens (continuous batching).

`generate` of transformers ends a batch as a whole. Here each row has its own length in each layer, padded on the left,
so an answer that has ended makes room at once, and a new prompt need not wait for others to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fcot.batch import Segments
from fcot.models.decoder import fill_cache
from fcot.models.prefix import Answerer, positions_of, unpack
from fcot.models.reduced_pages import Left, Prompts, as_row, index_of_left, kept_positions
from fcot.models.reduced_prefix import PackedPass
from fcot.models.roomy_cache import Held, gather
from fcot.models.seen_pages import BRANCH, Page, Seen, SeenPages
from fcot.models.transformers_api import CACHE
from fcot.reduce import BeforeReducer, InsideReducer, Reducer


@dataclass(frozen=True)
class Prompt:
    """A prompt to be answered.

    Attributes:
        ids: Its ids, a placeholder for each visual token.
        pages: Its pages, in order.
        opening: How many of the ids are the first prompt that had all pages. A reducer inside the language model acts
            while that part is read, and later turns are read with what it left, as in a conversation.
    """

    ids: list[int]
    pages: tuple[Page, ...]
    opening: int


class RunningRows:
    """The rows that are being answered.

    Args:
        pair: The model.
        pages: Looks at pages.
        reducer: Drops or merges visual tokens.
    """

    def __init__(self, pair: Answerer, pages: SeenPages, reducer: Reducer | None = None) -> None:
        self.pair, self.pages, self.reducer = pair, pages, reducer
        self.language = pair.student.model.language_model
        self.inside = reducer if isinstance(reducer, InsideReducer) else None
        self.stages: Sequence[int] = ()
        if self.inside is not None:
            self.inside.check(self.language.config.num_hidden_layers)
            self.stages = self.inside.stages(self.language.config.num_hidden_layers)
        self.clear()

    def clear(self) -> None:
        """Let all rows leave."""
        self.held: Held | None = None
        self.going_on: Sequence[int] = ()  # which of the rows held have not left; the rest is dropped at the next copy
        self.last: list[int] = []  # the token of each row that is read next
        self.next: list[int] = []  # its position, before any stage counts anew

    def __len__(self) -> int:
        return len(self.last)

    @torch.no_grad()
    def join(self, prompts: Sequence[Prompt]) -> list[float]:
        """Read prompts and add a row for each.

        Returns:
            Visual tokens of each that the language model reads, a mean over its layers.
        """
        seen = self.pages.look([(prompt.ids[: prompt.opening], prompt.pages) for prompt in prompts])
        read = self._prompts(prompts, seen)
        openings = [
            min(prompt.opening, len(ids)) if self.inside else len(ids)
            for prompt, ids in zip(prompts, read.ids, strict=True)
        ]
        fresh, visual = self._read(read, openings)
        for row, (ids, opening) in enumerate(zip(read.ids, openings, strict=True)):
            if opening < len(ids):
                fresh = self._read_on(fresh, row, ids[opening - 1 : -1], int(read.positions[row][opening - 1]))
        every = list(range(len(prompts)))
        parts: list[tuple[Held, Sequence[int]]] = [(fresh, every)]
        if self.held is not None:
            parts.insert(0, (self.held, self.going_on))
        self.held = gather(parts, self.language.config)
        self.going_on = range(len(self) + len(prompts))
        self.last += [ids[-1] for ids in read.ids]
        self.next += [int(where[-1]) for where in read.positions]
        return visual

    @torch.no_grad()
    def step(self) -> Tensor:
        """Read the last token of each row, and return the scores of the next one, float32 `[rows, vocabulary]`."""
        assert self.held is not None
        if len(self.held.lengths[0]) > len(self):
            self.held, self.going_on = gather([(self.held, self.going_on)], self.language.config), range(len(self))
        device = self.pair.student.device
        hidden = self._pass(self.held, torch.tensor(self.last, device=device)[:, None], self.next)
        self.next = [each + 1 for each in self.next]
        scores: Tensor = self.pair.student.lm_head(hidden[:, -1]).float()
        return scores

    def keep(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Let all other rows leave.

        Args:
            rows: Numbers of the rows that go on, in order.
            tokens: The token that each of them has got.
        """
        if not rows:
            self.clear()
            return
        self.going_on = [self.going_on[row] for row in rows]
        self.next = [self.next[row] for row in rows]
        self.last = list(tokens)

    def _prompts(self, prompts: Sequence[Prompt], seen: Sequence[Seen]) -> Prompts:
        """Return prompts as the language model reads them."""
        device, image_id = self.pair.student.device, int(self.pair.student.config.image_token_id)
        ids, positions, index = [], [], []
        for prompt, shown in zip(prompts, seen, strict=True):
            counts = torch.cat([torch.empty(0, dtype=torch.int64), *(page.counts for page in prompt.pages)])
            where = positions_of(self.pair, BRANCH, *as_row(prompt.ids, device), counts)[0]
            index.append(index_of_left(prompt.ids, image_id, shown.places, device))
            ids.append([prompt.ids[i] for i in index[-1].tolist()])
            if isinstance(self.reducer, BeforeReducer):
                where = kept_positions(self.reducer, where, index[-1])
            positions.append(where)
        return Prompts(ids, torch.cat([each.rows for each in seen]), positions, index)

    def _read(self, read: Prompts, openings: Sequence[int]) -> tuple[Held, list[float]]:
        """Read the openings of prompts without their last tokens, and count the visual tokens of each."""
        image_id, device = int(self.pair.student.config.image_token_id), read.rows.device
        ids = [each[:end] for each, end in zip(read.ids, openings, strict=True)]
        where = torch.cat([each[:end] for each, end in zip(read.positions, openings, strict=True)])[None]
        lengths = tuple(len(each) for each in ids)
        segments, embeddings = Segments(lengths, (0,) * len(ids)), replace(read, ids=ids).embeddings(self.pair.student)
        if self.inside is None:
            cache = fill_cache(self.language, embeddings, where, segments)
            remaining = [lengths] * len(cache.layers)
        else:
            packed = torch.tensor([token for each in ids for token in each], device=device)
            reading = PackedPass(self.inside, self.language, segments, packed == image_id, packed)
            cache, remaining = reading.run(embeddings, where)
        visual = [
            Left.of(each, image_id, its).equivalent for each, its in zip(ids, zip(*remaining, strict=True), strict=True)
        ]
        unpack(cache, remaining, range(len(ids)))
        for layer in cache.layers:  # answering goes on from the last token of each
            layer.keys, layer.values = layer.keys[:, :, :-1], layer.values[:, :, :-1]
        return Held(cache, [[length - 1 for length in its] for its in remaining]), visual

    def _read_on(self, held: Held, row: int, ids: list[int], position: int) -> Held:
        """Read further tokens of one row, unreduced."""
        others = list(range(len(held.lengths[0])))
        alone = gather([(held, [row])], self.language.config)
        self._pass(alone, torch.tensor([ids], device=self.pair.student.device), [position])
        return gather([(held, others[:row]), (alone, [0]), (held, others[row + 1 :])], self.language.config)

    def _pass(self, held: Held, tokens: Tensor, positions: Sequence[int]) -> Tensor:
        """Read tokens behind what is held, which they join; return normed hidden rows `[rows, new, width]`.

        Args:
            held: What was read before.
            tokens: Ids `[rows, new]`.
            positions: Of the first new token of each row.
        """
        hidden, new = self.pair.student.get_input_embeddings()(tokens), tokens.shape[1]
        count_up, starts = torch.arange(new, device=tokens.device), list(positions)
        for number, layer in enumerate(self.language.layers[: len(held.lengths)]):
            lengths = held.lengths[number]
            if number == 0 or number in self.stages:
                if number in self.stages and self.inside is not None and self.inside.positions == "renumbered":
                    starts = lengths
                where = torch.tensor(starts, device=tokens.device)[:, None] + count_up
                rotary = self.language.rotary_emb(hidden, where)
                mask = mask_of(lengths, new, tokens.device)
            hidden = layer(
                hidden,
                position_embeddings=rotary,
                position_ids=where,
                attention_mask=mask,
                **{CACHE: held.cache},
            )
        held.lengths = [[length + new for length in its] for its in held.lengths]
        normed: Tensor = self.language.norm(hidden)
        return normed


def mask_of(lengths: Sequence[int], new: int, device: torch.device) -> Tensor | None:
    """Return which places new tokens attend to `[rows, 1, new, longest + new]`; None for all.

    Args:
        lengths: Tokens of each row before the new ones, padded on the left to the longest.
        new: Tokens that are new in each row.
        device: Where the mask is to be.
    """
    longest = max(lengths)
    if new == 1 and min(lengths) == longest:
        return None
    held = torch.arange(longest, device=device) >= longest - torch.tensor(lengths, device=device)[:, None]
    causal = torch.ones(new, new, dtype=torch.bool, device=device).tril()
    parts = (held[:, None].expand(-1, new, -1), causal[None].expand(len(lengths), -1, -1))
    return torch.cat(parts, dim=2)[:, None]
