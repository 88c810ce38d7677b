"""What travels from the shards to the models: a batch of pages and their conversations."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fcot.internvl.tokens import IGNORED, ConversationEncoder


@dataclass(frozen=True)
class PageLayout:
    """What the data side must know of the models to prepare pages for them.

    Attributes:
        encoder: Turns conversations into ids.
        tile_size: Side of a tile in pixels.
        max_tiles: Most tiles of an image, thumbnail not counted.
        tokens_per_tile: Visual tokens of a tile for each side: `{"teacher": 256, "student": 128}`.
    """

    encoder: ConversationEncoder
    tile_size: int
    max_tiles: int
    tokens_per_tile: dict[str, int]


@dataclass(frozen=True)
class Sequences:
    """Padded ids of a batch for one side.

    Attributes:
        input_ids: Conversations with answers, padded on the right `[batch, length]`.
        labels: The id where it is learned, −100 elsewhere `[batch, length]`.
        answers: `answer_positions` of the labels `[answers]`; made on the CPU with the batch, so that no device is
            asked, and waited for, how many there are.
        prompt_ids: Prompts without the last answer, padded on the left `[batch, prompt]`; evaluation only.
        prompt_mask: 1 on prompt tokens, 0 on padding `[batch, prompt]`; evaluation only.
    """

    input_ids: Tensor
    labels: Tensor
    answers: Tensor
    prompt_ids: Tensor | None = None
    prompt_mask: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Sequences":
        """Return a copy with `change` applied to every tensor."""
        return Sequences(
            change(self.input_ids),
            change(self.labels),
            change(self.answers),
            None if self.prompt_ids is None else change(self.prompt_ids),
            None if self.prompt_mask is None else change(self.prompt_mask),
        )


def answer_positions(labels: Tensor) -> Tensor:
    """Return where the rows that predict an answer token stand when the batch is flattened `[answers]`.

    Args:
        labels: The id where it is learned, −100 elsewhere `[batch, length]`. The row before a token predicts it.
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
        references: Accepted answers to it.
        num_tiles: Tiles of each sample `[batch]`.
        tiles: All tiles in order, uint8 `[sum(num_tiles), 3, S, S]`.
        sequences: Ids for each side named in the layout.
    """

    keys: list[str]
    tasks: list[str]
    questions: list[str]
    references: list[list[str]]
    num_tiles: Tensor
    tiles: Tensor
    sequences: dict[str, Sequences] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a copy with `change` applied to every tensor."""
        return replace(
            self,
            num_tiles=change(self.num_tiles),
            tiles=change(self.tiles),
            sequences={side: sequences.map(change) for side, sequences in self.sequences.items()},
        )

    def to(self, device: torch.device | str, **kwargs: Any) -> "Batch":
        """Return the batch on a device."""
        return self.map(lambda tensor: tensor.to(device, **kwargs))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory."""
        return self.map(lambda tensor: tensor.pin_memory())
