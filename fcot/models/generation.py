"""Generate answers to a batch of prompts; questions on one page share its vision pass and its part of the cache.

Prompts of different lengths are read one after another in a packed row: without padding and without a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from fcot.batch import Batch, Segments
from fcot.internvl.tokens import positions
from fcot.models.decoder import fill_cache
from fcot.models.transformers_api import CACHE

if TYPE_CHECKING:
    from fcot.models.student_teacher import StudentTeacher


def answer(pair: StudentTeacher, batch: Batch, branch: str, **generation: Any) -> list[list[int]]:
    """Generate greedily after each prompt of a batch.

    Args:
        pair: The models.
        batch: With prompts (an evaluation batch).
        branch: "student", "teacher", or that of a further student.
        generation: Options of transformers' `generate`, `max_new_tokens` say.

    Returns:
        New token ids of each sample, end token and padding removed.
    """
    sequences, options = batch.sequences[branch], {"do_sample": False, "use_cache": True, **generation}
    ids, mask = sequences.prompt_ids, sequences.prompt_mask
    assert ids is not None and mask is not None
    first, ends, prompts = shared_prefixes(batch, ids, mask, pair.student.config.image_token_id)
    if len(set(first)) == len(batch) and len({len(prompt) for prompt in prompts}) == 1:
        embeddings = pair.embed(branch, batch, ids, pair.features(batch.tiles))
        where = pair.positions(branch, ids, mask)
        given = {} if where is None else {"position_ids": where}
        new = pair.student.generate(inputs_embeds=embeddings, attention_mask=mask, **given, **options)
    else:
        new = answer_on_prefixes(pair, batch, branch, first, ends, prompts, options)
    eos = pair.student.generation_config.eos_token_id
    stops = set(eos if isinstance(eos, list) else [eos])
    return [until(row.tolist(), stops) for row in new]


def shared_prefixes(
    batch: Batch, ids: Tensor, mask: Tensor, image_token_id: int
) -> tuple[list[int], list[int], list[list[int]]]:
    """Find samples that show the same page and say the same up to its last visual token.

    Args:
        batch: Whose tiles are compared.
        ids: Prompts `[batch, prompt]`, padded on the left.
        mask: 1 on prompt tokens, 0 on padding.
        image_token_id: Id of the placeholder.

    Returns:
        For each sample the first one like it, its length up to the last visual token, and its prompt.
    """
    pages = batch.tiles.split(batch.num_tiles.tolist())
    # a sum tells different pages apart at the cost of one number each
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


def answer_on_prefixes(
    pair: StudentTeacher,
    batch: Batch,
    branch: str,
    first: list[int],
    ends: list[int],
    prompts: list[list[int]],
    options: dict[str, Any],
) -> Tensor:
    """Generate after prompts whose starts are read first, common ones once `[batch, new]`."""
    starts, device, image_id = sorted(set(first)), batch.tiles.device, pair.student.config.image_token_id
    rows = [starts.index(i) for i in first]
    # a sample that shares nothing has all but its last token read: generation goes on from a token
    cuts = [ends[i] if first.count(i) > 1 else len(prompts[i]) - 1 for i in first]
    prefixes = [prompts[i][: cuts[i]] for i in starts]
    page, lengths = batch.take(starts), tuple(len(prefix) for prefix in prefixes)
    packed, segments = torch.tensor([list(chain(*prefixes))], device=device), Segments(lengths, (0,) * len(starts))
    step = pair.students()[branch].config.ratio if pair.positions(branch, packed) is not None else 1
    where = positions(packed, None, image_id, step)
    embeddings = pair.embed(branch, page, packed, pair.features(page.tiles), lengths)
    language = pair.student.model.language_model
    cache = fill_cache(language, embeddings, where - where[:, segments.first(device)], segments)
    for layer in cache.layers:
        layer.keys, layer.values = (unpacked(states, lengths, rows) for states in (layer.keys, layer.values))
    prefix_ids, prefix_mask = left_padded([prefixes[row] for row in rows], device)
    suffix_ids, suffix_mask = left_padded([prompt[cut:] for prompt, cut in zip(prompts, cuts, strict=True)], device)
    ids, mask = torch.cat([prefix_ids, suffix_ids], 1), torch.cat([prefix_mask, suffix_mask], 1)
    whole: Tensor = pair.student.generate(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(ids, mask, image_id, step),
        **{CACHE: cache},
        **options,
    )
    return whole[:, ids.shape[1] :]


def unpacked(states: Tensor, lengths: Sequence[int], rows: Sequence[int]) -> Tensor:
    """Give each row its sample's keys or values, padded on the left `[rows, heads, longest, head width]`.

    Args:
        states: Of all samples `[1, heads, tokens, head width]`.
        lengths: Tokens of each sample.
        rows: Which sample each row takes.
    """
    parts, longest = states[0].split(list(lengths), dim=1), max(lengths)
    return torch.stack([functional.pad(parts[i], (0, 0, longest - lengths[i], 0)) for i in rows])


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids padded on the left `[rows, longest]`, and their mask."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def until(ids: list[int], stops: set[int]) -> list[int]:
    """Return ids up to the first that ends an answer."""
    return next((ids[:i] for i, token in enumerate(ids) if token in stops), ids)
