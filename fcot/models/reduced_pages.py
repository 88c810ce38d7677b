"""Prompts whose visual tokens are fewer before the language model reads them."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Batch
from fcot.errors import UserError
from fcot.internvl.tokens import check_placeholders
from fcot.models.prefix import Answerer, positions_of
from fcot.models.projector import CompressedProjector, visual_tokens
from fcot.models.question import Text, question_text, reads_text
from fcot.reduce import BeforeReducer
from fcot.reduce.seen import Attention, Seen
from fcot.reduce.tower import layers_held


@dataclass(frozen=True)
class Prompts:
    """Prompts as the language model reads them, without padding.

    Attributes:
        ids: Of each.
        rows: Visual tokens of all, in order `[tokens, width]`.
        positions: Of each prompt's tokens.
        index: Which token of the whole prompt each was, or stands for.
    """

    ids: list[list[int]]
    rows: Tensor
    positions: list[Tensor]
    index: list[Tensor]

    def embeddings(self, model: Any) -> Tensor:
        """Return all prompts one after another `[1, tokens, width]`."""
        ids = torch.tensor([list(chain(*self.ids))], device=self.rows.device)
        embedded: Tensor = model.get_input_embeddings()(ids)
        return embedded.masked_scatter((ids == model.config.image_token_id)[..., None], self.rows.to(embedded.dtype))


@dataclass(frozen=True)
class Left:
    """Visual tokens of a prompt after a reducer.

    Attributes:
        kept: At the last layer of the language model.
        equivalent: Mean over the inputs of its layers.
    """

    kept: int
    equivalent: float

    @classmethod
    def of(cls, prompt: Sequence[int], image_id: int, lengths: Sequence[int]) -> "Left":
        """Count them.

        Args:
            prompt: Ids that the first layer was given.
            image_id: Id of the placeholder.
            lengths: Tokens of the prompt in each layer.
        """
        text = sum(token != image_id for token in prompt)
        return cls(lengths[-1] - text, sum(lengths) / len(lengths) - text)


@torch.no_grad()
def whole_prompts(pair: Answerer, batch: Batch, branch: str, first: Sequence[int], prompts: list[list[int]]) -> Prompts:
    """Look at the pages of a batch, each once, and return its prompts with all of their tokens; arguments as below."""
    seen = sorted(set(first))
    pages = batch.take(seen)
    features = pages.by_sample(pair.features(pages.tiles))
    of_all = torch.cat([features[seen.index(page)] for page in first])
    text = text_of(pair, branch, prompts, batch.num_tiles)
    rows = visual_tokens(pair.projector(branch), of_all, batch.tile_tokens[branch].tolist(), text)
    each = batch.tile_tokens[branch] if rows.ndim == 2 else torch.full((len(rows),), rows.shape[1])
    check_prompts(prompts, pair.student.config.image_token_id, each, batch)
    counts = batch.by_sample(batch.tile_tokens[branch])
    positions = [
        positions_of(pair, branch, *as_row(prompt, rows.device), its)[0]
        for prompt, its in zip(prompts, counts, strict=True)
    ]
    index = [torch.arange(len(prompt), device=rows.device) for prompt in prompts]
    return Prompts(prompts, rows.flatten(0, -2), positions, index)


@torch.no_grad()
def reduced_prompts(
    pair: Answerer, batch: Batch, branch: str, first: Sequence[int], prompts: list[list[int]], reducer: BeforeReducer
) -> Prompts:
    """Look at the pages of a batch, each once, and return its prompts with what a reducer leaves of their tokens.

    Args:
        pair: The models.
        batch: An evaluation batch.
        branch: Whose prompts.
        first: For each sample the first one with its page.
        prompts: Ids of each sample.
        reducer: What drops or merges.

    Raises:
        UserError: If the student's compressor does not say which tokens its own stand for.
    """
    model, seen = pair.student.model, sorted(set(first))
    pages, projector = batch.take(seen), pair.projector(branch)
    with layers_held(pair.student, reducer.layers) as held:
        features = pair.features(pages.tiles)
    attention = {name: Attention(**states) for name, states in held.items() if states.keys() >= {"queries", "keys"}}
    text = text_of(pair, branch, [prompts[i] for i in seen], pages.num_tiles)
    tokens, windows = projector_tokens(projector, features, text), windows_of(projector)
    expected = torch.full((int(batch.num_tiles.sum()),), tokens.shape[1])
    check_prompts(prompts, model.config.image_token_id, expected, batch)
    starts = [0, *pages.num_tiles.cumsum(0).tolist()]
    image_id, ids, rows, positions, index = model.config.image_token_id, [], [], [], []
    for sample, prompt in enumerate(prompts):
        page = seen.index(first[sample])
        tile, left = starts[page], []
        for number, tiles in enumerate(tiles_of_images(prompt, image_id, tokens.shape[1])):
            place = slice(tile, tile + tiles)
            layers: dict[str, Any] = {name: each.tiles(place) for name, each in attention.items()}
            shown = Seen(
                features=tokens[place],
                project=partial(projected, projector),
                grid=batch.grids[sample][number][::-1] if batch.grids else None,
                windows=windows,
                key=str(zlib.crc32(pages.tiles[place].cpu().numpy().tobytes())),  # a page's draw is the same everywhere
                image=number,
                **layers,
            )
            each = reducer.reduce(shown)
            left.append(each.by_place() if reducer.positions == "original" else each)
            tile += tiles
        counts = batch.by_sample(batch.tile_tokens[branch])[sample]
        where = positions_of(pair, branch, *as_row(prompt, tokens.device), counts)[0]
        index.append(index_of_left(prompt, image_id, [each.places for each in left], tokens.device))
        ids.append([prompt[i] for i in index[-1].tolist()])
        positions.append(kept_positions(reducer, where, index[-1]))
        rows += [each.rows if each.projected else projected(projector, each.rows) for each in left]
    nothing = pair.student.get_input_embeddings().weight[:0]
    return Prompts(ids, torch.cat([nothing, *(each.to(nothing.dtype) for each in rows)]), positions, index)


def check_prompts(prompts: list[list[int]], image_id: int, expected: Tensor, batch: Batch) -> None:
    """Check that prompts have as many placeholders as their tiles have visual tokens.

    Args:
        prompts: Ids of each sample.
        image_id: Id of the placeholder.
        expected: Visual tokens of each tile `[tiles]`.
        batch: The samples.

    Raises:
        UserError: As `check_placeholders`.
    """
    packed = torch.tensor([list(chain(*prompts))])
    check_placeholders(packed, image_id, expected, batch.num_tiles, batch.keys, [len(prompt) for prompt in prompts])


def kept_positions(reducer: BeforeReducer, positions: Tensor, index: Tensor) -> Tensor:
    """Return the positions of the tokens that are left, their own or counted anew."""
    return positions[index] if reducer.positions == "original" else torch.arange(len(index), device=positions.device)


def index_of_left(prompt: Sequence[int], image_id: int, places: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return which tokens of a prompt are left `[left]`: all text, and of each image what a reducer left.

    Args:
        prompt: Ids.
        image_id: Id of the placeholder.
        places: Which of its visual tokens are left of each image, in the order in which they are read.
        device: Where the result is to be.
    """
    parts, images, start = [], iter(places), 0
    for visual, run in groupby(prompt, lambda token: token == image_id):
        length = len(list(run))
        parts.append((next(images) if visual else torch.arange(length, device=device)) + start)
        start += length
    return torch.cat(parts)


def tiles_of_images(prompt: Sequence[int], image_id: int, per_tile: int) -> list[int]:
    """Return the tiles of each image of a prompt: a run of placeholders is an image."""
    return [len(list(run)) // per_tile for visual, run in groupby(prompt, lambda token: token == image_id) if visual]


def as_row(prompt: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a prompt's ids `[1, length]` and a mask of ones."""
    ids = torch.tensor([list(prompt)], device=device)
    return ids, torch.ones_like(ids)


def text_of(pair: Answerer, branch: str, prompts: Sequence[Sequence[int]], num_tiles: Tensor) -> Text | None:
    """Return the question about each tile, if the branch's compressor reads it.

    Args:
        pair: The models.
        branch: Whose compressor.
        prompts: Ids of each sample.
        num_tiles: Tiles of each sample.
    """
    if not reads_text(pair.projector(branch)):
        return None
    device = pair.student.get_input_embeddings().weight.device
    return question_text(pair.student, [torch.tensor(ids, device=device) for ids in prompts], num_tiles.tolist())


def projector_tokens(projector: Any, features: Tensor, text: Text | None) -> Tensor:
    """Return the tokens that a reducer chooses from `[tiles, tokens, width]`: a compressor's if there is one."""
    features = features.to(projector.linear_1.weight.dtype)
    return projector.tokens_of(features, None, text) if isinstance(projector, CompressedProjector) else features


def projected(projector: Any, tokens: Tensor) -> Tensor:
    """Return language rows `[tokens, width]` of what a reducer left."""
    rows: Tensor = projector.rows_of(tokens) if isinstance(projector, CompressedProjector) else projector(tokens)
    return rows


def windows_of(projector: Any) -> Tensor | None:
    """Return which of a compressor's tokens each token of the raster goes into `[tokens]`; None without a compressor.

    Raises:
        UserError: If it does not say so, or gives tiles different numbers of tokens.
    """
    if not isinstance(projector, CompressedProjector):
        return None
    compressor = projector.compressor
    windows = None if compressor.varies or compressor.lead else compressor.windows(compressor.ratio, compressor.side)
    if windows is None:
        raise UserError(
            f"The compressor {type(compressor).__name__} does not say which tokens its own stand for, so none can be "
            "chosen by the tower's attention.\nTake a reducer that acts inside the language model, such as fastv."
        )
    return torch.as_tensor(windows).flatten().long()
