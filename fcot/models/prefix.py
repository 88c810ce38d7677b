"""Prompt prefixes that are read before generation: shared ones once, and all packed without padding."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fcot.batch import Batch


def shared_prefixes(
    batch: Batch, ids: Tensor, mask: Tensor, image_token_id: int
) -> tuple[list[int], list[int], list[list[int]]]:
    """Find samples whose prompts agree, in page and text, up to the last visual token.

    Args:
        batch: A batch; its tiles are compared.
        ids: Prompts `[batch, prompt]`, padded on the left.
        mask: 1 on prompt tokens, 0 on padding.
        image_token_id: Id of the placeholder.

    Returns:
        For each sample, the first sample with the same prefix; the length of its prefix; and its prompt.
    """
    pages = batch.tiles.split(batch.num_tiles.tolist())
    # comparing sums, one number a page, rules out most pairs of different pages
    sums = torch.stack([page.sum(dtype=torch.int64) for page in pages]).tolist()
    prompts = [row[kept.bool()].tolist() for row, kept in zip(ids.cpu(), mask.cpu(), strict=True)]
    ends = [len(prompt) - prompt[::-1].index(image_token_id) if image_token_id in prompt else 0 for prompt in prompts]
    first: list[int] = []
    for i, page in enumerate(pages):
        alike = (
            j
            for j in range(i)
            if first[j] == j
            and sums[j] == sums[i]
            and ends[i] > 0
            and prompts[j][: ends[j]] == prompts[i][: ends[i]]
            and torch.equal(pages[j], page)
        )
        first.append(next(alike, i))
    return first, ends, prompts


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
