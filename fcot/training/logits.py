"""Logits of a few rows, laid out so that an accelerator's fast matrix products take them."""

import torch
from torch import Tensor
from torch.nn import functional

ALIGNED = 64  # elements; a row that begins at a multiple of 16 bytes is what fast products want, 128 suit caches


def logits_of(rows: Tensor, head: Tensor) -> Tensor:
    """Return `rows @ head.T`, `[rows, vocabulary]`, without a gradient.

    InternVL2's vocabularies are odd numbers (92,553), and products whose rows begin at odd addresses are several times
    slower on CUDA devices. There, the result is a view of wider rows.
    """
    if not _pads(rows, len(head)):
        return functional.linear(rows, head)
    return torch.mm(rows, head.T, out=_view(rows, len(head), rows.dtype))


def cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `values`, `[rows, vocabulary]`, in another type, laid out as `logits_of` does."""
    if not _pads(values, values.shape[1]):
        return values.to(dtype)
    return _view(values, values.shape[1], dtype).copy_(values)


def _pads(rows: Tensor, width: int) -> bool:
    return rows.device.type not in ("cpu", "meta") and width % ALIGNED != 0


def _view(like: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    whole = torch.empty(len(like), width + -width % ALIGNED, dtype=dtype, device=like.device)
    return whole[:, :width]
