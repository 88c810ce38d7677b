"""The tokens of one forward pass as stages drop and merge them: a batch, padded anew on the left after each stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from fcot.reduce.inside import Row, Selection

Rotary = tuple[Tensor, Tensor]  # cosines and sines `[rows or 1, length, head width]`


@dataclass
class Chunk:
    """The tokens of a forward pass, those that are left at present and those it began with.

    Attributes:
        entered: Which were tokens and no padding as it began `[rows, tokens]`.
        ids: Their ids, None if they came as embeddings `[rows, tokens]`.
        images: Visual tokens of each image of each row as it began.
        mask: Which are tokens and no padding at present `[rows, length]`.
        visual: Which of them are visual `[rows, length]`.
        image: Number of each visual token's image in its row `[rows, length]`.
        origin: Where each stood as the pass began, -1 for padding and merged tokens `[rows, length]`.
        embeddings: What entered the first layer `[rows, tokens, width]`.
        memories: What a reducer remembers of each row.
    """

    entered: Tensor
    ids: Tensor | None
    images: list[tuple[int, ...]]
    mask: Tensor
    visual: Tensor
    image: Tensor
    origin: Tensor
    embeddings: Tensor | None = None
    memories: list[dict[str, Tensor]] = field(default_factory=list)

    @classmethod
    def begin(cls, mask: Tensor, visual: Tensor, ids: Tensor | None) -> "Chunk":
        """Return the tokens of a pass before any stage `[rows, tokens]`; a run of visual tokens is an image."""
        visual = visual & mask
        image = (visual & ~pad(visual, (1, 0))[:, :-1]).cumsum(1) - 1
        images: list[tuple[int, ...]] = [() for _ in mask]
        if mask.shape[1] > 1:  # a single token is an answer's, and asking the device for each would slow it down
            images = [tuple(torch.bincount(row[there]).tolist()) for row, there in zip(image, visual, strict=True)]
        origin = torch.arange(mask.shape[1], device=mask.device).expand_as(mask).masked_fill(~mask, -1)
        return cls(mask, ids, images, mask, visual, image, origin, memories=[{} for _ in images])

    def row(
        self, i: int, hidden: Tensor, positions: Tensor, stage: int, num_layers: int, norm: Callable[[Tensor], Tensor]
    ) -> Row:
        """Return a row of the batch without its padding.

        Args:
            i: Which row.
            hidden: Hidden states `[rows, length, width]`.
            positions: `[rows, length]`.
            stage: Number of the stage, from 0.
            num_layers: Layers of the language model.
            norm: The language model's final norm.
        """
        assert self.embeddings is not None
        real, entered = self.mask[i], self.entered[i]
        origin, place = self.origin[i, real], entered.cumsum(0) - 1
        return Row(
            hidden=hidden[i, real],
            positions=positions[i, real],
            visual=self.visual[i, real],
            image=self.image[i, real],
            origin=torch.where(origin < 0, -1, place[origin.clamp(min=0)]),
            embeddings=self.embeddings[i, entered],
            ids=None if self.ids is None else self.ids[i, entered],
            images=self.images[i],
            stage=stage,
            num_layers=num_layers,
            norm=norm,
            memory=self.memories[i],
        )

    def cut(
        self,
        orders: Sequence[Tensor],
        selections: Sequence[Selection],
        hidden: Tensor,
        positions: Tensor,
        rotary: Rotary,
    ) -> tuple[Tensor, Tensor, Rotary]:
        """Leave in each row what was selected, and pad to the longest row on the left.

        Args:
            orders: Places in the unpadded row of what is left, new tokens counted behind all others.
            selections: Of each row.
            hidden: Hidden states `[rows, length, width]`.
            positions: `[rows, length]`.
            rotary: Their cosines and sines.

        Returns:
            The three of what is left; a new token has position, cosine and sine of the one it is like.
        """
        rows, length = self.mask.shape
        new = max(0 if each.merged is None else len(each.merged) for each in selections)
        extra = hidden.new_zeros(rows, new, hidden.shape[2])
        like = self.origin.new_zeros(rows, new)
        indices = []
        for i, (order, selection) in enumerate(zip(orders, selections, strict=True)):
            real = self.mask[i].nonzero()[:, 0]
            if selection.merged is not None and selection.like is not None:
                extra[i, : len(selection.merged)] = selection.merged.to(hidden.dtype)
                like[i, : len(selection.like)] = real[selection.like]
            indices.append(torch.cat([real, torch.arange(length, length + new, device=real.device)])[order])
        index = pad_sequence(indices, batch_first=True, padding_value=-1, padding_side="left")
        real, index = index >= 0, index.clamp(min=0)
        old = torch.where(index < length, index, like.gather(1, (index - length).clamp(min=0)) if new else index)
        merged = index >= length
        hidden = _take(torch.cat([hidden, extra], 1) if new else hidden, index)
        self.visual, self.image = (_take(self.visual, old) | merged) & real, _take(self.image, old)
        self.origin, self.mask = _take(self.origin, old).masked_fill(merged | ~real, -1), real
        cos, sin = (_take(part.expand(rows, -1, -1), old) for part in rotary)
        return hidden, _take(positions, old).masked_fill(~real, 0), (cos, sin)

    def scattered(self, hidden: Tensor) -> Tensor:
        """Return what is left where it stood as the pass began, zeros elsewhere `[rows, tokens, width]`."""
        tokens = self.entered.shape[1]
        whole = hidden.new_zeros(hidden.shape[0], tokens + 1, hidden.shape[2])
        where = self.origin.masked_fill(self.origin < 0, tokens)
        return whole.scatter(1, where[..., None].expand_as(hidden), hidden)[:, :tokens]


def _take(tensor: Tensor, index: Tensor) -> Tensor:
    """Return the tokens `[rows, new]` of `[rows, length]` or `[rows, length, width]`."""
    return tensor.gather(1, index if tensor.ndim == 2 else index[..., None].expand(-1, -1, tensor.shape[-1]))
