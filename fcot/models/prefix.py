"""Prompt prefixes that are read before generation: shared ones once, and all packed without padding."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fcot.batch import Batch


class Answerer(Protocol):
    """The methods that generation needs of its models; `StudentTeacher` has them."""

    student: Any

    def students(self) -> dict[str, Any]:
        """Return the students by branch."""

    def features(self, tiles: Tensor) -> Tensor:
        """Return vision features of tiles."""

    def positions(
        self, branch: str, ids: Tensor, mask: Tensor | None = None, counts: Tensor | None = None
    ) -> Tensor | None:
        """Return positions of tokens, None where they are consecutive."""

    def projector(self, branch: str) -> Any:
        """Return what turns features into a branch's visual tokens."""

    def embed(
        self, branch: str, batch: Batch, ids: Tensor, features: Tensor, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Return embeddings of ids, visual tokens at the placeholders."""


def shared_prefixes(
    batch: Batch, ids: Tensor, mask: Tensor, image_token_id: int, *, whole: bool = False
) -> tuple[list[int], list[int], list[list[int]]]:
    """Find samples whose prompts agree, in page and text, up to the last visual token.

    Args:
        batch: A batch; its tiles are compared.
        ids: Prompts `[batch, prompt]`, padded on the left.
        mask: 1 on prompt tokens, 0 on padding.
        image_token_id: Id of the placeholder.
        whole: Prompts must agree in all but their last token, as where a page's tokens depend on the question.

    Returns:
        For each sample, the first sample with the same prefix; the length of its prefix; and its prompt.
    """
    pages = batch.tiles.split(batch.num_tiles.tolist())
    prompts = [row[kept.bool()].tolist() for row, kept in zip(ids.cpu(), mask.cpu(), strict=True)]
    ends = [len(prompt) - prompt[::-1].index(image_token_id) if image_token_id in prompt else 0 for prompt in prompts]
    if whole:
        ends = [len(prompt) - 1 if end else 0 for prompt, end in zip(prompts, ends, strict=True)]

    def begin_alike(i: int, j: int) -> bool:
        return ends[i] > 0 and prompts[j][: ends[j]] == prompts[i][: ends[i]]

    first = first_alike(pages, begin_alike)
    return first, ends, prompts


def first_alike(pages: Sequence[Tensor], also: Callable[[int, int], bool] | None = None) -> list[int]:
    """Return for each of some pages the number of the first with the same tiles, which may be its own.

    Args:
        pages: Tiles of each `[tiles, 3, S, S]`.
        also: What two pages, given by number, must have in common besides (default: nothing).
    """
    # comparing sums, one number a page, rules out most pairs of different pages
    sums = torch.stack([page.sum(dtype=torch.int64) for page in pages]).tolist()
    first: list[int] = []
    for i, page in enumerate(pages):
        alike = (
            j
            for j in range(i)
            if first[j] == j and sums[j] == sums[i] and (also is None or also(i, j)) and torch.equal(pages[j], page)
        )
        first.append(next(alike, i))
    return first


def unpack(cache: Any, lengths: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
    """Give each row of a cache its sample's keys and values.

    Args:
        cache: Of packed samples.
        lengths: Tokens of each sample in each layer.
        rows: Which sample each row takes.
    """
    for layer, its in zip(cache.layers, lengths, strict=True):
        layer.keys, layer.values = (unpacked(states, its, rows) for states in (layer.keys, layer.values))


def unpacked(states: Tensor, lengths: Sequence[int], rows: Sequence[int]) -> Tensor:
    """Unpack each row's keys or values, padded on the left `[rows, heads, longest, head width]`.

    Args:
        states: Keys or values of all samples, packed `[1, heads, tokens, head width]`.
        lengths: Tokens of each sample.
        rows: Number of the sample that each row takes.
    """
    parts, longest = states[0].split(list(lengths), dim=1), max(lengths)
    return torch.stack([functional.pad(parts[i], (0, 0, longest - lengths[i], 0)) for i in rows])


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids padded on the left `[rows, longest]`, and their mask."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def features_of(pair: Answerer, batch: Batch) -> Tensor:
    """Return the vision features of a batch's tiles, which may already be there `[tiles, tokens, width]`."""
    return pair.features(batch.tiles) if batch.features is None else batch.features


def positions_of(pair: Answerer, branch: str, ids: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
    """Return the positions of tokens `[rows, length]`, counted up where a branch does not keep the teacher's."""
    kept = pair.positions(branch, ids, mask, counts)
    return mask.cumsum(1) - mask if kept is None else kept
