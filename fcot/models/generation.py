"""Generate answers to a batch of prompts; questions on one page share its vision pass and its part of the cache.

Prompts of different lengths are packed into one row, without padding or a mask.
"""

from itertools import chain
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Batch, Segments
from fcot.models.decoder import fill_cache
from fcot.models.prefix import Answerer, left_padded, positions_of, shared_prefixes, unpack
from fcot.models.question import reads_text
from fcot.models.reduced_pages import Left, reduced_prompts, whole_prompts
from fcot.models.reduced_prefix import PackedPass, reducing, without_last
from fcot.models.sampling import Sampling
from fcot.models.transformers_api import CACHE
from fcot.reduce import BeforeReducer, InsideReducer, Reducer


def answer(
    pair: Answerer,
    batch: Batch,
    branch: str,
    sampling: Sampling | None = None,
    reducer: Reducer | None = None,
    left: list[Left] | None = None,
    **generation: Any,
) -> list[list[int]]:
    """Generate after each prompt of a batch.

    Args:
        pair: The models.
        batch: An evaluation batch, with prompts.
        branch: "student", "teacher", or a further student's branch.
        sampling: How to draw; None is greedy.
        reducer: Drops or merges visual tokens.
        left: Is given what it left of each prompt.
        generation: Options of transformers' `generate`, such as `max_new_tokens`.

    Returns:
        New token ids, `num_answers` lists for each sample in turn, without end token and padding.
    """
    sequences, options = batch.sequences[branch], {"do_sample": False, "use_cache": True, **generation}
    ids, mask = sequences.prompt_ids, sequences.prompt_mask
    assert ids is not None and mask is not None
    whole = reads_text(pair.projector(branch))
    first, ends, prompts = shared_prefixes(batch, ids, mask, pair.student.config.image_token_id, whole=whole)
    sampling = sampling or Sampling()
    options |= sampling.options(prompts, batch.tiles.split(batch.num_tiles.tolist()))
    copies = sampling.num_answers
    if isinstance(reducer, BeforeReducer | InsideReducer):
        new = answer_reduced(
            pair, batch, branch, first, prompts, options, copies, reducer, [] if left is None else left
        )
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
    reducer: Reducer,
    left: list[Left],
) -> Tensor:
    """Generate after prompts of fewer visual tokens `[batch · copies, new]`; pages are looked at once."""
    device, language = batch.tiles.device, pair.student.model.language_model
    inside = reducer if isinstance(reducer, InsideReducer) else None
    if isinstance(reducer, BeforeReducer):
        read = reduced_prompts(pair, batch, branch, first, prompts, reducer)
    else:
        read = whole_prompts(pair, batch, branch, first, prompts)
    lengths = tuple(len(prompt) for prompt in read.ids)
    segments, where = Segments(lengths, (0,) * len(lengths)), torch.cat(read.positions)[None]
    embeddings = read.embeddings(pair.student)
    if inside is None:
        cache = fill_cache(language, embeddings, where, segments)
        remaining = [lengths] * len(cache.layers)
    else:
        ids = torch.tensor(list(chain(*read.ids)), device=device)
        visual = ids == pair.student.config.image_token_id
        cache, remaining = PackedPass(inside, language, segments, visual, ids).run(embeddings, where)
    by_sample = zip(read.ids, zip(*remaining, strict=True), strict=True)
    left += [Left.of(prompt, pair.student.config.image_token_id, its) for prompt, its in by_sample]
    rows = [i for i in range(len(prompts)) for _ in range(copies)]
    beams = [row for row in rows for _ in range(options.get("num_beams", 1))]
    unpack(cache, remaining, beams)
    cache = without_last(cache, inside, remaining, beams)
    ids, mask = left_padded([read.ids[row] for row in rows], device)
    positions, _ = left_padded([read.positions[row].tolist() for row in rows], device)
    with reducing(pair.student, inside):
        whole: Tensor = pair.student.generate(
            input_ids=ids, attention_mask=mask, position_ids=positions, **{CACHE: cache}, **options
        )
    return whole[:, ids.shape[1] :]


def stop_tokens(pair: Answerer) -> set[int]:
    """Return the ids that end an answer."""
    eos = pair.student.generation_config.eos_token_id
    return set(eos if isinstance(eos, list) else [eos])


def until(ids: list[int], stops: set[int]) -> list[int]:
    """Return the ids before the first stop token."""
    return next((ids[:i] for i, token in enumerate(ids) if token in stops), ids)
