"""Count the FLOPs of real code on the meta device, where tensors have shapes and nothing is computed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
Shape = tuple[int, ...]

# Products of a query with a key's width: scores and values forward; in the backward pass the scores again, and the
# gradients of values, probabilities, queries and keys.
FORWARD, BACKWARD = 2, 5


def attention_products(query: Shape, key: Shape, causal: bool) -> int:
    """Return the FLOPs of one product over all pairs of query and key; a causal kernel skips the pairs it masks."""
    *outer, queries, width = query
    keys = key[-2]
    pairs = queries * (queries + 1) // 2 if causal else queries * keys
    return 2 * prod(outer) * pairs * width


def attention_forward(
    query: Shape, key: Shape, value: Shape, dropout: float = 0.0, causal: bool = False, **_: Any
) -> int:
    """Return the FLOPs of fused attention."""
    return FORWARD * attention_products(query, key, causal)


def attention_backward(
    gradient: Shape,
    query: Shape,
    key: Shape,
    value: Shape,
    out: Shape,
    logsumexp: Shape,
    dropout: float,
    causal: bool,
    **_: Any,
) -> int:
    """Return the FLOPs of fused attention's gradients."""
    return BACKWARD * attention_products(query, key, causal)


class FusedAttention(TorchFunctionMode):
    """Makes attention on the meta device the one fused kernel it is on real ones.

    It would fall back to plain matrix products there, which also compute what a causal mask then throws away.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace attention, call anything else."""
        replaced = fused if function is functional.scaled_dot_product_attention else function
        return replaced(*args, **(kwargs or {}))


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return what `scaled_dot_product_attention` returns, with its arguments."""
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = (tensor[:, :, None].expand(-1, -1, groups, -1, -1).flatten(1, 2) for tensor in (key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # the kernel adds its mask
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -torch.inf)
    out: Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
    return out


@contextmanager
def counting() -> Iterator[Callable[[], float]]:
    """Count what runs on the meta device; gives a function that returns the FLOPs so far."""
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: attention_forward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
        },
    )
    with FusedAttention(), counter:
        yield lambda: float(counter.get_total_flops())
