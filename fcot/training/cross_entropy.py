"""Cross-entropy of answer rows with a trainable head, in chunks: full logits are never stored."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fcot.models.autocast import without_autocast
from fcot.training.distillation import check_chunk_rows


class _Chunked(torch.autograd.Function):
    """Weighted sum over rows; gradients to rows and head are formed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        head: Tensor,
        labels: Tensor,
        weights: Tensor,
        learns: tuple[bool, bool],
        dtype: torch.dtype,
        chunk_rows: int,
    ) -> tuple[Tensor, Tensor]:
        # labels are int64, the rest floating point; autograd records nothing here
        ctx.dtypes = rows.dtype, head.dtype
        rows, head = rows.to(dtype), head.to(dtype)
        d_rows = torch.zeros_like(rows) if learns[0] else None
        d_head = torch.zeros_like(head, dtype=torch.promote_types(dtype, torch.float32)) if learns[1] else None
        ce_rows = rows.new_zeros(len(rows), dtype=torch.promote_types(dtype, torch.float32))
        for start in range(0, len(rows), chunk_rows):
            chunk = slice(start, start + chunk_rows)
            part, target, weight = rows[chunk], labels[chunk, None], weights[chunk, None].to(ce_rows.dtype)
            d_z = functional.linear(part, head).to(ce_rows.dtype).log_softmax(-1)
            ce_rows[chunk] = -d_z.gather(1, target)[:, 0]
            if not any(learns):
                continue
            d_z.exp_().mul_(weight).scatter_add_(1, target, -weight)
            d_z = d_z.to(dtype)
            if d_rows is not None:
                d_rows[chunk] = d_z @ head
            if d_head is not None and d_head.dtype == dtype:
                d_head.addmm_(d_z.T, part)
            elif d_head is not None:
                d_head += d_z.T @ part
        ctx.save_for_backward(d_rows, d_head)
        ctx.mark_non_differentiable(ce_rows)
        return (ce_rows * weights).sum(), ce_rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        scaled = (None if grad is None else (grad * grads[0].to(grad.dtype)).to(dtype) for grad, dtype in found)
        return (*scaled, *[None] * 5)


def answer_cross_entropy(
    rows: Tensor, head_weight: Tensor, labels: Tensor, weights: Tensor | None = None, *, chunk_rows: int = 1024
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of answer rows, and the cross-entropy of each row.

    Args:
        rows: Final hidden rows `[rows, width]`.
        head_weight: The language model's head `[vocabulary, width]`.
        labels: Id of the token that each row should predict `[rows]`.
        weights: Weight of each row in the mean `[rows]` (default: equal).
        chunk_rows: Rows whose logits exist at a time; affects memory, not the result.

    Returns:
        The mean, with gradients to rows and head if they require them (without rows, zero and still connected); and
        `[rows]` in fp32, without gradient.

    Raises:
        UserError: If chunk_rows is not positive.
    """
    check_chunk_rows(chunk_rows)
    kind = rows.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    else:
        dtype = torch.promote_types(rows.dtype, head_weight.dtype)
    weights = torch.ones(len(rows), device=rows.device) if weights is None else weights
    graph = torch.is_grad_enabled()
    learns = graph and rows.requires_grad, graph and head_weight.requires_grad
    with without_autocast(kind):
        total, ce_rows = _Chunked.apply(rows, head_weight, labels, weights, learns, dtype, chunk_rows)  # type: ignore[no-untyped-call]
    return total / weights.sum().clamp(min=torch.finfo(torch.float32).tiny), ce_rows
