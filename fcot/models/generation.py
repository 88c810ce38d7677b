"""Generate answers to a batch of prompts; questions on one page share its vision pass and its part of the cache.

Prompts of different lengths are read one after another in a packed row: without padding and without a mask.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from fcot.batch import Batch, Segments
from fcot.models.decoder import fill_cache
from fcot.models.prefix import left_padded, shared_prefixes, unpack
from fcot.models.reduced_prefix import PackedPass, reducing, without_last
from fcot.models.sampling import Sampling
from fcot.models.transformers_api import CACHE
from fcot.reduce import InsideReducer


class Answerer(Protocol):
    """What generation needs of the models: `StudentTeacher` has it."""

    student: Any

    def students(self) -> dict[str, Any]:
        """Return the students by branch."""

    def features(self, tiles: Tensor) -> Tensor:
        """Return vision features of tiles."""

    def positions(
        self, branch: str, ids: Tensor, mask: Tensor | None = None, counts: Tensor | None = None
    ) -> Tensor | None:
        """Return positions of tokens, None where they count up."""

    def embed(
        self, branch: str, batch: Batch, ids: Tensor, features: Tensor, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Return embeddings of ids, visual tokens at the placeholders."""


def answer(
    pair: Answerer,
    batch: Batch,
    branch: str,
    sampling: Sampling | None = None,
    reducer: InsideReducer | None = None,
    **generation: Any,
) -> list[list[int]]:
    """Generate after each prompt of a batch.

    Args:
        pair: The models.
        batch: With prompts (an evaluation batch).
        branch: "student", "teacher", or that of a further student.
        sampling: How to draw; None is greedy.
        reducer: Drops visual tokens between layers of the language model.
        generation: Options of transformers' `generate`, such as `max_new_tokens`.

    Returns:
        New token ids of each sample, of its `num_answers` one after another, end token and padding removed.
    """
    sequences, options = batch.sequences[branch], {"do_sample": False, "use_cache": True, **generation}
    ids, mask = sequences.prompt_ids, sequences.prompt_mask
    assert ids is not None and mask is not None
    first, ends, prompts = shared_prefixes(batch, ids, mask, pair.student.config.image_token_id)
    sampling = sampling or Sampling()
    options |= sampling.options(prompts, batch.tiles.split(batch.num_tiles.tolist()))
    copies = sampling.num_answers
    if reducer is not None:
        new = answer_reduced(pair, batch, branch, first, prompts, options, copies, reducer)
    elif copies == 1 and len(set(first)) == len(batch) and len({len(prompt) for prompt in prompts}) == 1:
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
    """Generate after prompts whose starts are read first, common ones once `[batch · copies, new]`."""
    starts, device = sorted(set(first)), batch.tiles.device
    rows = [starts.index(i) for i in first for _ in range(copies)]
    # a sample that shares nothing has all but its last token read: generation goes on from a token
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
    unpack(cache, [lengths] * len(cache.layers), beams)
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


def answer_reduced(
    pair: Answerer,
    batch: Batch,
    branch: str,
    first: list[int],
    prompts: list[list[int]],
    options: dict[str, Any],
    copies: int,
    reducer: InsideReducer,
) -> Tensor:
    """Generate after prompts that a reducer cuts as they are read `[batch · copies, new]`; pages are looked at once."""
    device, language = batch.tiles.device, pair.student.model.language_model
    seen, lengths = sorted(set(first)), tuple(len(prompt) for prompt in prompts)
    pages = batch.take(seen)
    features = pages.by_sample(pair.features(pages.tiles))
    packed, segments = torch.tensor([list(chain(*prompts))], device=device), Segments(lengths, (0,) * len(prompts))
    where = positions_of(pair, branch, packed, torch.ones_like(packed), batch.tile_tokens[branch])
    embeddings = pair.embed(branch, batch, packed, torch.cat([features[seen.index(i)] for i in first]), lengths)
    visual = packed[0] == pair.student.config.image_token_id
    reading = PackedPass(reducer, language, segments, visual, packed[0])
    cache, left = reading.run(embeddings, where - where[:, segments.first(device)])
    rows = [i for i in range(len(prompts)) for _ in range(copies)]
    beams = [row for row in rows for _ in range(options.get("num_beams", 1))]
    unpack(cache, left, beams)
    cache = without_last(cache, reducer, left, beams)
    ids, mask = left_padded([prompts[row] for row in rows], device)
    shown = batch.by_sample(batch.tile_tokens[branch])
    with reducing(pair.student, reducer):
        whole: Tensor = pair.student.generate(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions_of(pair, branch, ids, mask, torch.cat([shown[row] for row in rows])),
            **{CACHE: cache},
            **options,
        )
    return whole[:, ids.shape[1] :]


def positions_of(pair: Answerer, branch: str, ids: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
    """Return the positions of tokens `[rows, length]`, counted up where a branch does not keep the teacher's."""
    kept = pair.positions(branch, ids, mask, counts)
    return mask.cumsum(1) - mask if kept is None else kept


def stop_tokens(pair: Answerer) -> set[int]:
    """Return the ids that end an answer."""
    eos = pair.student.generation_config.eos_token_id
    return set(eos if isinstance(eos, list) else [eos])


def until(ids: list[int], stops: set[int]) -> list[int]:
    """Return ids up to the first that ends an answer."""
    return next((ids[:i] for i, token in enumerate(ids) if token in stops), ids)
