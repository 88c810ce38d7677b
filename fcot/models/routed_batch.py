"""Lay batches out anew for other numbers of visual tokens, as a student's router or anyone else chooses them."""

from dataclasses import replace

import torch
from torch import Tensor

from fcot.batch import Batch, Sequences
from fcot.models.prefix import Answerer, first_alike
from fcot.models.relayout import kept_places, tiles_shown
from fcot.models.routing import Asked, requests_of


@torch.no_grad()
def routed(pair: Answerer, batch: Batch, branch: str, visual_tokens: Asked = None, budget: int | None = None) -> Batch:
    """Look at a batch's pages, and lay its prompts out as the student's router decides; features stay in the batch.

    Args:
        pair: The models.
        batch: An evaluation batch, padded.
        branch: Branch of an elastic student.
        visual_tokens: "auto", or what is asked of each tile or page.
        budget: Most visual tokens of each sample, instead.

    Raises:
        UserError: If the student cannot give what is asked for.
    """
    routing = pair.projector(branch).routing
    seen = replace(batch, features=features_once(pair, batch)) if routing.learned else batch
    requests = requests_of(batch.tiles, pages_of(pair, batch, branch), seen.features)
    return with_counts(pair, seen, branch, routing.counts(requests, visual_tokens, budget))


def pages_of(pair: Answerer, batch: Batch, branch: str) -> list[list[int]]:
    """Return the tiles of each page of each sample."""
    ids, image_id = batch.sequences[branch].input_ids, pair.student.config.image_token_id
    return tiles_shown(ids, None, image_id, batch.tile_tokens[branch].tolist())


def with_counts(pair: Answerer, batch: Batch, branch: str, counts: Tensor) -> Batch:
    """Return a padded batch in which a branch's tiles have other numbers of visual tokens.

    Args:
        pair: The models.
        batch: A batch whose samples have a row each.
        branch: Branch of an elastic student.
        counts: Visual tokens of each tile, int64 `[tiles]`.
    """
    sequences, image_id = batch.sequences[branch], pair.student.config.image_token_id
    shown, rows, prompts = pages_of(pair, batch, branch), [], []
    for number, (pages, its) in enumerate(zip(shown, batch.by_sample(counts), strict=True)):
        ids, labels = sequences.input_ids[number], sequences.labels[number]
        places = kept_places(ids, image_id, pages, its)
        rows.append((ids[places].cpu().numpy(), labels[places].cpu().numpy()))
        if sequences.prompt_ids is not None and sequences.prompt_mask is not None:
            prompt = sequences.prompt_ids[number][sequences.prompt_mask[number].bool()]
            prompts.append(prompt[kept_places(prompt, image_id, pages, its)].cpu().numpy())
    new = Sequences.padded(rows, 0, prompts).map(lambda tensor: tensor.to(sequences.input_ids.device))
    return replace(
        batch, sequences={**batch.sequences, branch: new}, tile_tokens={**batch.tile_tokens, branch: counts.cpu()}
    )


def features_once(pair: Answerer, batch: Batch) -> Tensor:
    """Return the features of a batch's tiles `[tiles, N, C]`; a page that several samples show is looked at once."""
    first = first_alike(batch.by_sample(batch.tiles))
    seen = sorted(set(first))
    own = batch.take(seen)
    features = own.by_sample(pair.features(own.tiles))
    return torch.cat([features[seen.index(page)] for page in first])
