"""Merged tensors that are computed block by block, so that a merge holds one tensor and not the models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.files.finite import PIECE, is_finite
from fcot.merge.checks import blame, check_same_tensors

BLOCK = 8 * PIECE  # elements of a tensor whose pages of each file are in memory together


class Blockwise(Mapping[str, Tensor], ABC):
    """Merged tensors as a mapping that computes one when it is asked for, and keeps none.

    A subclass mixes pieces of fp32 (fp64 for fp64 tensors); the result is cast to the base's dtype once, at the end.
    Integers and booleans are the base's. While a tensor is computed, it and a block of each checkpoint are in memory,
    whatever the number of checkpoints and their size. Tensors are on the base's device.

    Args:
        base: θ_base.
        checkpoints: θ_1 … θ_N, with the base's names, shapes and dtypes.

    Attributes:
        used: Places of the checkpoints that are read; all of them, unless a subclass leaves some out.

    Raises:
        UserError: If the checkpoints differ in their tensors or (at look-up) a merged tensor holds NaN or infinity.
    """

    def __init__(self, base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]]) -> None:
        check_same_tensors(base, checkpoints)
        self.base = base
        self.checkpoints = tuple(checkpoints)
        self.used: Sequence[int] = range(len(self.checkpoints))

    @abstractmethod
    def mix(self, name: str, start: int, base: Tensor, deltas: Sequence[Tensor]) -> Tensor:
        """Return a piece of the merged tensor.

        Args:
            name: The tensor.
            start: Where in the flat tensor the piece begins.
            base: The piece of θ_base `[piece]`; it must not be changed in place.
            deltas: The piece of θ_i - θ_base of each used checkpoint, `[piece]` each.
        """

    def prepare(self, name: str) -> None:
        """Look at a whole tensor before its pieces are mixed, for what they depend on together."""

    def __getitem__(self, name: str) -> Tensor:
        base = self.base[name].detach()
        if not base.is_floating_point():
            return base.clone()
        merged = torch.empty(base.shape, dtype=base.dtype, device=base.device)
        del base  # so that a block of it at a time is in memory
        self.prepare(name)
        for start, base_piece, deltas in self.pieces(name):
            merged.view(-1)[start : start + len(base_piece)] = self.mix(name, start, base_piece, deltas)
        if not is_finite(merged):
            raise self.broken(name)
        return merged

    def pieces(self, name: str) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
        """Yield of each piece of a floating tensor: where it starts, θ_base `[piece]`, and each used θ_i - θ_base."""
        size = self.base[name].numel()
        for block in range(0, size, BLOCK):
            # Looked up anew for each block: what was read of a mapped file leaves memory with the tensor that maps it.
            base = self.base[name].detach().reshape(-1)[block : block + BLOCK]
            wide = torch.float64 if base.dtype == torch.float64 else torch.float32
            others = [
                self.checkpoints[place][name].detach().reshape(-1)[block : block + BLOCK].to(base.device)
                for place in self.used
            ]
            for start in range(0, len(base), PIECE):
                here = slice(start, start + PIECE)
                base_piece = base[here].to(wide)
                yield block + start, base_piece, [other[here].to(wide) - base_piece for other in others]

    def broken(self, name: str) -> UserError:
        """Return the error that says why a merged tensor is not finite."""
        return UserError(blame(name, self.base, {place: self.checkpoints[place] for place in self.used}))

    def __contains__(self, name: object) -> bool:
        return name in self.base

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)
