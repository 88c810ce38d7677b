"""What the tokens of an answer attend to, read in a second pass over prompt and answer.

No map of all tokens by all tokens is made: each layer's queries of the answer alone meet its keys.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Segments
from fcot.errors import UserError
from fcot.models.conversation import Conversation
from fcot.models.prefix import positions_of
from fcot.reduce.attention import row_probabilities

QUERIES = 64  # rows of probabilities that exist at one time, over all heads of a layer


class RowsRead:
    """Adds up what some tokens attend to, mean over heads, in some layers.

    Args:
        rows: Which tokens `[rows]`.
        layers: Numbers of the layers.
    """

    attends = True

    def __init__(self, rows: Tensor, layers: Sequence[int]) -> None:
        self.rows, self.layers = rows, layers
        self.total: Tensor | None = None

    def observe(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> None:
        """See queries `[1, heads, length, head width]` and keys `[1, key heads, length, head width]` of a layer."""
        if layer not in self.layers:
            return
        parts = [row_probabilities(query[0], key[0], rows, scaling).mean(0) for rows in self.rows.split(QUERIES)]
        found = torch.cat(parts)
        self.total = found if self.total is None else self.total + found

    def mean(self) -> Tensor:
        """Return the mean over the layers `[rows, length]`."""
        assert self.total is not None
        return self.total / len(self.layers)


def layers_of(language: Any, layers: Sequence[int] | None) -> list[int]:
    """Return the numbers of the layers to read, from 0; None stands for the second half.

    The tiny teacher's last layer of four attends to the place of the letter that it writes, the first two to nothing
    in particular.

    Raises:
        UserError: If there is no such layer, or none is named.
    """
    number = int(language.config.num_hidden_layers)
    chosen = list(range(number // 2, number)) if layers is None else sorted(set(layers))
    wrong = [layer for layer in chosen if not 0 <= layer < number]
    if wrong or not chosen:
        named = f"layer {wrong[0]}" if wrong else "no layer"
        raise UserError(
            f"layers names {named}, and the language model has {number}.\nGive numbers from 0 to {number - 1}."
        )
    return chosen


@torch.no_grad()
def answer_attention(
    conversation: Conversation, prompt: Sequence[int], answer: Sequence[int], layers: Sequence[int] | None = None
) -> Tensor:
    """Return what each token of an answer attends to, mean over heads and layers `[answers, prompt + answers − 1]`.

    The row of a token is that of the token before it, from which it is predicted. An empty answer has one row, that
    of its end. Rows sum to 1.

    Args:
        conversation: Its first turn has been answered; no reducer is at work in it.
        prompt: Ids of that turn, a placeholder for each visual token.
        answer: Ids of the answer, without the end token.
        layers: Which layers of the language model, from 0 (default: the second half).

    Raises:
        UserError: If there is no such layer.
    """
    pair, device = conversation.pair, conversation.page.tiles.device
    assert conversation.prompts is not None and conversation.reducer is None
    language = pair.student.model.language_model
    chosen = layers_of(language, layers)
    ids, told = torch.tensor([list(prompt)], device=device), torch.tensor([list(answer[:-1])], device=device)
    start = conversation.prompts.embeddings(pair.student)
    hidden = torch.cat([start, pair.student.get_input_embeddings()(told.long()).to(start.dtype)], dim=1)
    where = positions_of(pair, conversation.branch, ids, torch.ones_like(ids), conversation.counts)
    where = torch.cat([where, where[:, -1:] + 1 + torch.arange(told.shape[1], device=device)], dim=1)
    read = RowsRead(torch.arange(len(prompt) - 1, hidden.shape[1], device=device), chosen)
    rotary, segments = language.rotary_emb(hidden, where), Segments((hidden.shape[1],), (0,))
    for layer in language.layers[: chosen[-1] + 1]:
        hidden = layer(hidden, position_embeddings=rotary, position_ids=where, segments=segments, reduction=read)
    return read.mean()
