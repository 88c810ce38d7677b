"""Run the language model from embeddings to the rows that predict answer tokens.

Samples are padded rows, or packed one after another into a single row; either way none attends to another. Of the last
layer only the answer rows are needed, so only they have queries there and pass through its MLP.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_flash_attention_utils import _flash_attention_forward
from transformers.models.llama.modeling_llama import LlamaAttention, rotate_half
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from fcot.batch import Segments
from fcot.errors import UserError
from fcot.models.transformers_api import CACHE, DECODER, refusal, require_api
from fcot.reduce.attention import Observer

PACKED = "packed_sdpa"
LAYERS_KNOWN = (LlamaAttention, Qwen2Attention)  # attention whose last layer can run for some rows only


def varlen_kernel(query: Tensor) -> str | None:
    """Return the name of a variable-length flash attention that transformers has for this device, if any."""
    if query.device.type in ("cpu", "meta") or query.dtype not in (torch.bfloat16, torch.float16):
        return None
    if is_flash_attn_3_available():
        return "flash_attention_3"
    return "flash_attention_2" if is_flash_attn_2_available() else None


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments | None = None,
    reduction: Observer | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each sample of a packed row; without `segments`, run transformers' SDPA.

    Args:
        module: The attention layer.
        query: `[rows, heads, length, head width]`; packed, a single row.
        key: `[rows, key heads, length, head width]`.
        value: As the key.
        attention_mask: Used if rows are not packed.
        segments: Samples of a packed row.
        reduction: Observer that sees queries and keys first.
        options: Further arguments that transformers gives attention functions.

    Returns:
        `[rows, length, heads, head width]`.
    """
    if reduction is not None:
        reduction.observe(module.layer_idx, query, key, module.scaling)
        if not reduction.attends:
            return value.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None
    if segments is not None:
        return attend_within(module, query, key, value, segments, options), None
    attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return attended


# or every new set of lengths would trigger a compilation
@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_within(
    module: Any, query: Tensor, key: Tensor, value: Tensor, segments: Segments, options: dict[str, Any]
) -> Tensor:
    """Attend within each sample of a packed row, by one call for each sample or one variable-length kernel.

    The equivalent block-diagonal mask is never built: no score between tokens of different samples is computed.
    """
    kernel = varlen_kernel(query)
    if kernel is None:
        parts = zip(*(tensor.split(segments.lengths, dim=2) for tensor in (query, key, value)), strict=True)
        return torch.cat([sdpa_attention_forward(module, *part, None, **options)[0] for part in parts], dim=1)
    ends, longest = segments.boundaries.to(query.device, non_blocking=True), max(segments.lengths)
    out: Tensor = _flash_attention_forward(
        *(tensor.transpose(1, 2) for tensor in (query, key, value)),
        attention_mask=None,
        query_length=query.shape[2],
        is_causal=True,
        dropout=options.get("dropout", 0.0),
        softmax_scale=options.get("scaling"),
        cu_seq_lens_q=ends,
        cu_seq_lens_k=ends,
        max_length_q=longest,
        max_length_k=longest,
        attn_implementation=kernel,
    )
    return out


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)  # for generation, which pads


def allow_packing(language: Any) -> None:
    """Let a transformers language model take packed rows; other inputs work as before.

    Raises:
        UserError: If its layers attend to a window of tokens only, or transformers has renamed their arguments.
    """
    require_api(DECODER)
    if "sliding_attention" in (getattr(language.config, "layer_types", None) or ()):
        raise UserError(
            f"The language model ({language.config.model_type}) attends to a window of "
            f"{language.config.sliding_window} tokens, which is not supported.\n"
            "Set use_sliding_window to false in its configuration if it was trained with full attention."
        )
    language.set_attn_implementation(PACKED)


def answer_rows(
    language: Any,
    embeddings: Tensor,
    positions: Tensor,
    answers: Tensor,
    segments: Segments,
    *,
    packed: bool,
    checkpointing: bool = False,
) -> Tensor:
    """Return the final hidden rows at answer positions `[answers, width]`.

    Args:
        language: A transformers decoder, after `allow_packing`.
        embeddings: `[rows, length, width]`; padding is on the right, where causal attention never sees it.
        positions: Position of each token in its sample `[rows or 1, length]`.
        answers: Indices of the answer rows in the flattened rows, in order.
        segments: Samples of the flattened rows.
        packed: Whether there is a single row with all samples.
        checkpointing: Keep only each layer's input for the backward pass, and recompute the rest.
    """
    rotary = language.rotary_emb(embeddings, positions)
    layers, hidden = language.layers[: language.config.num_hidden_layers], embeddings
    # without gradients no activations are kept, so there is nothing to recompute
    keeps_little = checkpointing and torch.is_grad_enabled()

    def run(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(layer, *args, use_reentrant=False, **kwargs) if keeps_little else layer(*args, **kwargs)

    # all rows pass if none is an answer row, so that every parameter has a gradient, or if the layer's type is unknown
    cut = isinstance(layers[-1].self_attn, LAYERS_KNOWN) and sum(segments.counts) > 0
    for layer in layers[:-1] if cut else layers:
        hidden = run(
            layer,
            hidden,
            position_embeddings=rotary,
            position_ids=positions,
            segments=segments if packed else None,
        )
    if cut:
        # a sharded layer has a method that gathers its weights first: see `fcot.models.sharding`
        cut_layer = getattr(layers[-1], "answer_rows", partial(last_layer, layers[-1]))
        rows = run(cut_layer, hidden, rotary, answers, segments)
    else:
        rows = hidden.flatten(0, 1).index_select(0, answers)
    out: Tensor = language.norm(rows)
    return out


def fill_cache(language: Any, embeddings: Tensor, positions: Tensor, segments: Segments) -> DynamicCache:
    """Return the keys and values of packed samples, `[1, heads, tokens, head width]` in each layer.

    Args:
        language: A transformers decoder, after `allow_packing`.
        embeddings: `[1, tokens, width]`.
        positions: Position of each token in its sample `[1, tokens]`.
        segments: Where samples begin and end.
    """
    cache, hidden = DynamicCache(config=language.config), embeddings
    rotary = language.rotary_emb(embeddings, positions)
    for layer in language.layers[: language.config.num_hidden_layers]:
        hidden = layer(
            hidden,
            position_embeddings=rotary,
            position_ids=positions,
            segments=segments,
            **{CACHE: cache},
        )
    if cache.get_seq_length() != embeddings.shape[1]:
        raise refusal("does not fill the cache given to a decoder layer")
    return cache


def last_layer(
    layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], answers: Tensor, segments: Segments
) -> Tensor:
    """Return a decoder layer's output for the answer rows `[answers, width]`; other rows give only keys and values.

    Args:
        layer: A layer of Llama or Qwen2.
        hidden: `[rows, length, width]`.
        rotary: Cosines and sines `[rows or 1, length, head width]`.
        answers: Indices of the answer rows in the flattened rows, in order.
        segments: Samples of the flattened rows.
    """
    attention, normed = layer.self_attn, layer.input_layernorm(hidden).flatten(0, 1)
    cos, sin = (part.expand(*hidden.shape[:2], -1).flatten(0, 1) for part in rotary)

    def heads(rows: Tensor) -> Tensor:
        apart: Tensor = rows.unflatten(-1, (-1, attention.head_dim))
        return apart.transpose(0, 1)[None]  # [1, heads, rows, head width]

    def rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turned: Tensor = states * cos + rotate_half(states) * sin
        return turned

    query = rotated(heads(attention.q_proj(normed[answers])), cos[answers], sin[answers])
    key, value = rotated(heads(attention.k_proj(normed)), cos, sin), heads(attention.v_proj(normed))
    attended = attend_answers(attention, query, key, value, answers, segments)
    rows = hidden.flatten(0, 1)[answers] + attention.o_proj(attended)
    out: Tensor = rows + layer.mlp(layer.post_attention_layernorm(rows))
    return out


def attend_answers(
    attention: Any, query: Tensor, key: Tensor, value: Tensor, answers: Tensor, segments: Segments
) -> Tensor:
    """Attend from each answer row to its sample's tokens up to itself `[answers, heads · head width]`."""
    dropout = attention.attention_dropout if attention.training else 0.0
    sides = (
        query.split(segments.counts, dim=2),
        key.split(segments.lengths, dim=2),
        value.split(segments.lengths, dim=2),
        answers.split(segments.counts),
        segments.starts,
    )
    parts = []
    for q, k, v, rows, start in zip(*sides, strict=True):
        if len(rows):
            places = torch.arange(start, start + k.shape[2], device=rows.device)
            seen = (places <= rows[:, None])[None, None]
            parts.append(sdpa_attention_forward(attention, q, k, v, seen, dropout, attention.scaling)[0])
    return torch.cat(parts, dim=1)[0].flatten(1)
