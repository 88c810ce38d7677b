"""Look for NaN and infinity in tensors, piece by piece."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Elements in a piece: so few that temporary copies fit into the processor's cache.
PIECE = 2**18


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Cut a tensor into flat views of bounded size; `[…]` → several `[≤ PIECE]`, in memory order."""
    yield from torch.split(tensor.reshape(-1), PIECE)


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor is free of NaN and infinity."""
    if not tensor.is_floating_point():
        return True
    if tensor.element_size() == 1:  # isfinite does not take float8
        tensor = tensor.float()
    return all(bool(piece.isfinite().all()) for piece in pieces(tensor))
