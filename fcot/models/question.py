"""The question about a page, for compressors that read it, found in the ids alone.

It is the turn in which a sample's first page is shown: what stands between the end of the turn before and its own end.
No answer about the page is in it, so that neither training nor a later turn can change a page's tokens by one.
"""

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fcot.errors import UserError
from fcot.models.projector import CompressedProjector

Text: TypeAlias = tuple[Tensor, Tensor]  # embeddings `[tiles, words, H]`, and which are words, bool `[tiles, words]`
WORDS_ON_META = 32  # length of a question where ids have no values


def reads_text(projector: Any) -> bool:
    """Return whether a projector's compressor reads the question."""
    return isinstance(projector, CompressedProjector) and projector.compressor.reads_text


def samples_of(ids: Tensor, mask: Tensor | None = None, lengths: Sequence[int] | None = None) -> list[Tensor]:
    """Return the ids of each sample, one dimension each.

    Args:
        ids: `[rows, length]`, or `[1, tokens]` of samples packed one after another.
        mask: 1 on tokens, 0 on padding; None for all tokens.
        lengths: Tokens of each packed sample; None if each has a row.
    """
    if lengths is not None:
        return list(ids[0].split(list(lengths)))
    if mask is None or ids.is_meta:
        return list(ids)
    return [row[kept.bool()] for row, kept in zip(ids, mask[:, -ids.shape[1] :], strict=True)]


def question_of(ids: Tensor, image_id: int, ends: Collection[int]) -> Tensor:
    """Return the ids of the question about a sample's first page, without its placeholders.

    Args:
        ids: Of a sample with a page `[length]`.
        image_id: Id of the placeholder.
        ends: Ids that end a turn.

    Raises:
        UserError: If the turn has no end.
    """
    first = int((ids == image_id).nonzero()[0])
    stops = torch.isin(ids, torch.tensor(sorted(ends), device=ids.device)).nonzero()[:, 0]
    before, after = stops[stops < first], stops[stops > first]
    if not len(after):
        raise UserError(
            f"The question about a page has no end: none of the tokens {sorted(ends)} follows its placeholders.\n"
            "This model reads the question, and needs prompts in its chat template."
        )
    turn = ids[int(before[-1]) + 1 if len(before) else 0 : int(after[0])]
    return turn[turn != image_id]


def question_text(model: Any, samples: Sequence[Tensor], num_tiles: Sequence[int]) -> Text:
    """Return the question of each tile's sample as embeddings.

    Args:
        model: The student.
        samples: Ids of each sample.
        num_tiles: Tiles of each sample.
    """
    config, embed = model.config, model.get_input_embeddings()
    device = samples[0].device
    if samples[0].is_meta:
        questions = [ids.new_zeros(WORDS_ON_META) for ids in samples]
    else:
        questions = [
            question_of(ids, config.image_token_id, config.turn_end_ids) if tiles else ids[:0]
            for ids, tiles in zip(samples, num_tiles, strict=True)
        ]
    words = pad_sequence(questions, batch_first=True)
    lengths = torch.tensor([len(question) for question in questions], device=device)
    mask = torch.arange(words.shape[1], device=device) < lengths[:, None]
    sample = torch.arange(len(samples)).repeat_interleave(torch.tensor(num_tiles)).to(device)
    return embed(words)[sample], mask[sample]
