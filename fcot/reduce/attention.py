"""Attention that shows its queries and keys to a reducer, and the few rows of probabilities that reducers ask for.

A map of all queries by all keys is never made. Queries and keys come rotated, and after Qwen3's norms of them.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from fcot.errors import UserError

# a name with "flash" in it would be looked up among the kernels of the Hub
OBSERVED = "observed_sdpa"
CHUNK = 256  # queries whose probabilities are held at once


class Observer(Protocol):
    """What an attention function shows its queries and keys to.

    Attributes:
        attends: The layer's output is needed; otherwise its queries and keys alone are.
    """

    attends: bool

    def observe(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> None:
        """See queries `[rows, heads, length, head width]` and keys `[rows, key heads, past + length, head width]`."""


def observed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    reduction: Observer | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' SDPA does, after an observer has seen queries and keys.

    Args:
        module: The attention layer.
        query: `[rows, heads, length, head width]`.
        key: `[rows, key heads, past + length, head width]`.
        value: As the key.
        attention_mask: As `sdpa_mask` makes it.
        reduction: The observer; without one nothing differs from SDPA.
        options: What transformers gives its attention functions.

    Returns:
        `[rows, length, heads, head width]`, zeros if the observer needs no output.

    Raises:
        UserError: If samples stand packed in a row.
    """
    if options.get("segments") is not None:
        raise UserError(
            "Samples packed in one row came to a model whose visual tokens are being reduced.\n"
            "Leave `reduced(...)` before packed rows are read, or read padded ones."
        )
    if reduction is not None:
        reduction.observe(module.layer_idx, query, key, module.scaling)
        if not reduction.attends:
            rows, heads, length, _ = query.shape
            return query.new_zeros(rows, length, heads, value.shape[-1]), None
    attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return attended


AttentionInterface.register(OBSERVED, observed_attention)
AttentionMaskInterface.register(OBSERVED, sdpa_mask)


def row_probabilities(query: Tensor, key: Tensor, rows: Tensor, scaling: float) -> Tensor:
    """Return what some queries of one unpadded sample attend to `[heads, rows, past + length]`, in fp32.

    Args:
        query: `[heads, length, head width]`.
        key: `[key heads, past + length, head width]`; heads of queries share them in order.
        rows: Which queries `[rows]`.
        scaling: Factor of the logits.
    """
    past = key.shape[1] - query.shape[1]
    with torch.autocast(query.device.type, enabled=False):
        asked = query[:, rows].float().unflatten(0, (key.shape[0], -1))
        logits = torch.einsum("kgrd,kmd->kgrm", asked, key.float()) * scaling
    later = torch.arange(key.shape[1], device=key.device) > rows[:, None] + past
    return logits.masked_fill(later, -torch.inf).softmax(-1).flatten(0, 1)


def attention_of_last(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Return what the last token attends to, mean over heads `[length]`; arguments as of `row_probabilities`."""
    length = query.shape[1]
    rows = torch.tensor([length - 1], device=query.device)
    return row_probabilities(query, key, rows, scaling).mean(0)[0, -length:]


def attention_received(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Return the mean over all queries of what each token is attended with, mean over heads `[length]`.

    Queries before a token count with 0. Arguments as of `row_probabilities`.
    """
    length = query.shape[1]
    total = torch.zeros(length, device=query.device)
    for rows in torch.arange(length, device=query.device).split(CHUNK):
        total += row_probabilities(query, key, rows, scaling).mean(0).sum(0)[-length:]
    return total / length
