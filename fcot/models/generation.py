"""Generate answers to a batch of prompts; questions on one page share its vision pass and its part of the cache.

Prompts of different lengths are packed into one row, without padding or a mask.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from fcot.batch import Batch, Segments
from fcot.models.decoder import fill_cache
from fcot.models.prefix import left_padded, shared_prefixes, unpacked
from fcot.models.sampling import Sampling
from fcot.models.transformers_api import CACHE


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

    def embed(
        self, branch: str, batch: Batch, ids: Tensor, features: Tensor, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Return embeddings of ids, visual tokens at the placeholders."""


def answer(
    pair: Answerer, batch: Batch, branch: str, sampling: Sampling | None = None, **generation: Any
) -> list[list[int]]:
    """Generate after each prompt of a batch.

    Args:
        pair: The models.
        batch: An evaluation batch, with prompts.
        branch: "student", "teacher", or a further student's branch.
        sampling: How to draw; None is greedy.
        generation: Options of transformers' `generate`, such as `max_new_tokens`.

    Returns:
        New token ids, `num_answers` lists for each sample in turn, without end token and padding.
    """
    sequences, options = batch.sequences[branch], {"do_sample": False, "use_cache": True, **generation}
    ids, mask = sequences.prompt_ids, sequences.prompt_mask
    assert ids is not None and mask is not None
    first, ends, prompts = shared_prefixes(batch, ids, mask, pair.student.config.image_token_id)
    sampling = sampling or Sampling()
    options |= sampling.options(prompts, batch.tiles.split(batch.num_tiles.tolist()))
    copies = sampling.num_answers
    if copies == 1 and len(set(first)) == len(batch) and len({len(prompt) for prompt in prompts}) == 1:
        embeddings = pair.embed(branch, batch, ids, pair.features(batch.tiles))
        where = pair.positions(branch, ids, mask, batch.tile_tokens[branch])
        given = {} if where is None else {"position_ids": where}
        new = pair.student.generate(inputs_embeds=embeddings, attention_mask=mask, **given, **options)
    else:
        new = answer_on_prefixes(pair, batch, branch, first, ends, prompts, options, copies)
    stops = stop_tokens(pair)
    return [until(row.tolist(), stops) for row in new]


def answer_on_prefixes(
    pair: Answerer,
    batch: Batch,
    branch: str,
    first: list[int],
    ends: list[int],
    prompts: list[list[int]],
    options: dict[str, Any],
    copies: int = 1,
) -> Tensor:
    """Generate after reading the starts of prompts, common ones once; return new ids `[batch · copies, new]`."""
    starts, device = sorted(set(first)), batch.tiles.device
    rows = [starts.index(i) for i in first for _ in range(copies)]
    # a sample that shares nothing has all but its last token as prefix: generation continues from that token
    cuts = [ends[i] if first.count(i) > 1 else len(prompts[i]) - 1 for i in first]
    suffixes = [prompt[cut:] for prompt, cut in zip(prompts, cuts, strict=True) for _ in range(copies)]
    prefixes = [prompts[i][: cuts[i]] for i in starts]
    page, lengths = batch.take(starts), tuple(len(prefix) for prefix in prefixes)
    packed, segments = torch.tensor([list(chain(*prefixes))], device=device), Segments(lengths, (0,) * len(starts))
    where = positions_of(pair, branch, packed, torch.ones_like(packed), page.tile_tokens[branch])
    embeddings = pair.embed(branch, page, packed, pair.features(page.tiles), lengths)
    language = pair.student.model.language_model
    cache = fill_cache(language, embeddings, where - where[:, segments.first(device)], segments)
    beams = [row for row in rows for _ in range(options.get("num_beams", 1))]  # `generate` repeats all but the cache
    for layer in cache.layers:
        layer.keys, layer.values = (unpacked(states, lengths, beams) for states in (layer.keys, layer.values))
    prefix_ids, prefix_mask = left_padded([prefixes[row] for row in rows], device)
    suffix_ids, suffix_mask = left_padded(suffixes, device)
    ids, mask = torch.cat([prefix_ids, suffix_ids], 1), torch.cat([prefix_mask, suffix_mask], 1)
    shown = page.by_sample(page.tile_tokens[branch])
    whole: Tensor = pair.student.generate(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(pair, branch, ids, mask, torch.cat([shown[row] for row in rows])),
        **{CACHE: cache},
        **options,
    )
    return whole[:, ids.shape[1] :]


def positions_of(pair: Answerer, branch: str, ids: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
    """Return the positions of tokens `[rows, length]`: consecutive ones unless the branch keeps the teacher's."""
    kept = pair.positions(branch, ids, mask, counts)
    return mask.cumsum(1) - mask if kept is None else kept


def stop_tokens(pair: Answerer) -> set[int]:
    """Return the ids that end an answer."""
    eos = pair.student.generation_config.eos_token_id
    return set(eos if isinstance(eos, list) else [eos])


def until(ids: list[int], stops: set[int]) -> list[int]:
    """Return the ids before the first stop token."""
    return next((ids[:i] for i, token in enumerate(ids) if token in stops), ids)
