"""A batch of pages and their conversations, as the data module passes it to the models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fcot.internvl.drawn_tokens import DrawnTokens
from fcot.internvl.encoder import IGNORED, ConversationEncoder, pad
from fcot.internvl.tokens import TileTokens, sums_by_sample, tile_counts


@dataclass(frozen=True)
class PageLayout:
    """What the data side must know about the models to prepare pages for them.

    Attributes:
        encoder: Turns conversations into ids.
        tile_size: Side of a tile in pixels.
        max_tiles: Most tiles of an image, thumbnail not counted.
        tokens_per_tile: Visual tokens of a tile for each branch, such as `{"teacher": 256, "student": 128}`; a
            function of the tiles where their numbers differ.
    """

    encoder: ConversationEncoder
    tile_size: int
    max_tiles: int
    tokens_per_tile: Mapping[str, TileTokens]
    limit: Callable[[int, int], int] | None = None

    def most_tiles(self, size: tuple[int, int]) -> int:
        """Return the most tiles of a page of a width and height in pixels, thumbnail not counted."""
        return self.max_tiles if self.limit is None else self.limit(*size)

    def counts(
        self, branch: str, tiles: Tensor, seed: Sequence[int] | None = None, pages: Sequence[int] = ()
    ) -> Tensor:
        """Return how many visual tokens a branch gives each of the tiles, int64 `[tiles]`.

        Args:
            branch: One of `tokens_per_tile`.
            tiles: Those of a sample, uint8 `[tiles, 3, S, S]`.
            seed: What numbers that are drawn depend on; None draws none.
            pages: Tiles of each of the sample's pages.
        """
        tokens = self.tokens_per_tile[branch]
        if seed is not None and isinstance(tokens, DrawnTokens):
            return tokens.drawn(tiles, seed, pages)
        return tile_counts(tokens, tiles)


@dataclass(frozen=True)
class Sequences:
    """Ids of a batch for one branch: a padded row for each sample, or all samples packed into one row.

    Attributes:
        input_ids: Conversations with answers `[batch, length]`, padded on the right; packed `[1, tokens]`.
        labels: Ids of answer tokens, −100 elsewhere, of the same shape.
        answers: `answer_positions` of the labels `[answers]`; computed on the CPU with the batch, as their number would
            otherwise have to be read back from the device.
        prompt_ids: Prompts without the last answer, padded on the left `[batch, prompt]`; evaluation only.
        prompt_mask: 1 on prompt tokens, 0 on padding `[batch, prompt]`; evaluation only.
        counts: Answer rows of each sample; None if they were not counted on the CPU.
        lengths: Tokens of each sample in a packed row; None for padded rows.
        packs: Samples of each forward pass; None for all samples in one.
    """

    input_ids: Tensor
    labels: Tensor
    answers: Tensor
    prompt_ids: Tensor | None = None
    prompt_mask: Tensor | None = None
    counts: tuple[int, ...] | None = None
    lengths: tuple[int, ...] | None = None
    packs: tuple[tuple[int, ...], ...] | None = None

    @staticmethod
    def padded(
        rows: Sequence[tuple[np.ndarray, np.ndarray]], fill: int, prompts: Sequence[np.ndarray] = ()
    ) -> "Sequences":
        """Pad samples to the longest.

        Args:
            rows: Ids and labels of each sample.
            fill: Id of padding.
            prompts: Ids of each sample's prompt, for evaluation.
        """
        ids, labels = zip(*rows, strict=True)
        padded = pad(labels, IGNORED)
        return Sequences(
            input_ids=pad(ids, fill),
            labels=padded,
            answers=answer_positions(padded),
            prompt_ids=pad(prompts, fill, left=True) if prompts else None,
            prompt_mask=pad([np.ones_like(row) for row in prompts], 0, left=True) if prompts else None,
            counts=tuple(int((row[1:] != IGNORED).sum()) for row in labels),
        )

    @staticmethod
    def packed(
        rows: Sequence[tuple[np.ndarray, np.ndarray]], packs: Sequence[Sequence[int]] | None = None
    ) -> "Sequences":
        """Pack samples one after another into one row, without padding.

        Args:
            rows: Ids and labels of each sample.
            packs: Samples of each forward pass; None for all samples in one.
        """
        ids, labels = (np.concatenate(each) for each in zip(*rows, strict=True))
        lengths = tuple(len(row) for row, _ in rows)
        labels[np.cumsum((0, *lengths[:-1]))] = IGNORED  # or the last row of another sample would predict it
        whole = torch.from_numpy(labels)[None]
        return Sequences(
            input_ids=torch.from_numpy(ids)[None],
            labels=whole,
            answers=answer_positions(whole),
            counts=tuple(int((row[1:] != IGNORED).sum()) for _, row in rows),
            lengths=lengths,
            packs=None if packs is None else tuple(tuple(pack) for pack in packs),
        )

    def segments(self) -> "Segments":
        """Return where samples begin and end when the rows are flattened."""
        rows, length = self.input_ids.shape
        counts = self.counts
        if counts is None:
            counts = tuple((self.answers // length).bincount(minlength=rows).tolist())
        return Segments(self.lengths or (length,) * rows, counts)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Sequences":
        """Return a copy with `change` applied to every tensor."""
        return replace(
            self,
            input_ids=change(self.input_ids),
            labels=change(self.labels),
            answers=change(self.answers),
            prompt_ids=None if self.prompt_ids is None else change(self.prompt_ids),
            prompt_mask=None if self.prompt_mask is None else change(self.prompt_mask),
        )

    def take(self, samples: Sequence[int]) -> "Sequences":
        """Return the sequences of some samples, in the given order."""
        segments = self.segments()
        chosen = Segments(*(tuple(values[i] for i in samples) for values in (segments.lengths, segments.counts)))
        answers = self.answers.split(segments.counts)
        moved = zip(samples, chosen.starts, strict=True)
        index = torch.tensor(samples, device=self.input_ids.device)

        def rows(tensor: Tensor) -> Tensor:
            if self.lengths is None:
                return tensor[index]
            parts = tensor.split(self.lengths, dim=1)
            return torch.cat([parts[i] for i in samples], dim=1)

        return Sequences(
            input_ids=rows(self.input_ids),
            labels=rows(self.labels),
            answers=torch.cat([answers[i] - segments.starts[i] + start for i, start in moved]),
            prompt_ids=None if self.prompt_ids is None else self.prompt_ids[index],
            prompt_mask=None if self.prompt_mask is None else self.prompt_mask[index],
            counts=chosen.counts,
            lengths=None if self.lengths is None else chosen.lengths,
        )


@dataclass(frozen=True)
class Segments:
    """Samples one after another in flattened rows.

    Attributes:
        lengths: Tokens of each sample.
        counts: Answer rows of each sample.
    """

    lengths: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each sample begins."""
        return (0, *accumulate(self.lengths[:-1]))

    @cached_property
    def boundaries(self) -> Tensor:
        """Where each sample begins, and where the last ends, int32 `[samples + 1]` on the CPU."""
        return torch.tensor((0, *accumulate(self.lengths)), dtype=torch.int32)

    def first(self, device: torch.device) -> Tensor:
        """Return, for each token, where its sample begins `[tokens]`."""
        starts = np.repeat(np.asarray(self.starts), np.asarray(self.lengths))
        return torch.from_numpy(starts).to(device, non_blocking=True)


def answer_positions(labels: Tensor) -> Tensor:
    """Return the indices, in the flattened batch, of the rows that predict an answer token `[answers]`.

    Args:
        labels: Ids of answer tokens, −100 elsewhere `[batch, length]`. The row before a token predicts it.
    """
    predicts = functional.pad(labels[:, 1:] != IGNORED, (0, 1))
    return predicts.flatten().nonzero()[:, 0]


@dataclass(frozen=True)
class Batch:
    """A batch of samples.

    Attributes:
        keys: Sample keys.
        tasks: Task names.
        questions: Last question of each sample.
        references: Accepted answers to that question.
        num_tiles: Tiles of each sample `[batch]`; stays on the CPU.
        tiles: All tiles in order, uint8 `[sum(num_tiles), 3, S, S]`.
        sequences: Ids for each branch named in the layout.
        tile_tokens: Visual tokens of each tile for each branch, int64 `[tiles]`; stays on the CPU.
        grids: Columns and rows of the tiles of each image, by sample; empty where nobody asks.
        ids: What each sample calls itself, None without a name; empty where nobody asks.
        features: Vision features of all tiles, if they are already computed `[tiles, N, C]`.
    """

    keys: list[str]
    tasks: list[str]
    questions: list[str]
    references: list[list[str]]
    num_tiles: Tensor
    tiles: Tensor
    sequences: dict[str, Sequences] = field(default_factory=dict)
    tile_tokens: dict[str, Tensor] = field(default_factory=dict)
    grids: list[list[tuple[int, int]]] = field(default_factory=list)
    ids: list[str | int | None] = field(default_factory=list)
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def idle(self) -> bool:
        """Whether it only keeps a process in step with others: a single sample without a key, which is not counted."""
        return self.keys == [""]

    def visual_tokens(self, branch: str) -> list[int]:
        """Return how many visual tokens each sample has for a branch."""
        return sums_by_sample(self.tile_tokens[branch], self.num_tiles).tolist()

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a copy with `change` applied to every tensor but the numbers of tiles and of visual tokens."""
        return replace(
            self,
            tiles=change(self.tiles),
            sequences={branch: sequences.map(change) for branch, sequences in self.sequences.items()},
            features=None if self.features is None else change(self.features),
        )

    def take(self, samples: Sequence[int]) -> "Batch":
        """Return a batch of some samples, in the given order; at least one."""
        tiles = self.by_sample(self.tiles)
        counts = {branch: self.by_sample(each) for branch, each in self.tile_tokens.items()}
        return Batch(
            keys=[self.keys[i] for i in samples],
            tasks=[self.tasks[i] for i in samples],
            questions=[self.questions[i] for i in samples],
            references=[self.references[i] for i in samples],
            num_tiles=self.num_tiles[list(samples)],
            tiles=torch.cat([tiles[i] for i in samples]),
            sequences={branch: sequences.take(samples) for branch, sequences in self.sequences.items()},
            tile_tokens={branch: torch.cat([each[i] for i in samples]) for branch, each in counts.items()},
            grids=[self.grids[i] for i in samples] if self.grids else [],
            ids=[self.ids[i] for i in samples] if self.ids else [],
            features=None if self.features is None else torch.cat([self.by_sample(self.features)[i] for i in samples]),
        )

    def by_sample(self, values: Tensor) -> tuple[Tensor, ...]:
        """Split values of tiles, `[tiles, …]`, by sample."""
        parts: tuple[Tensor, ...] = values.split(self.num_tiles.tolist())
        return parts

    def to(self, device: torch.device | str, **kwargs: Any) -> "Batch":
        """Return the batch on a device."""
        return self.map(lambda tensor: tensor.to(device, **kwargs))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory."""
        return self.map(lambda tensor: tensor.pin_memory())
