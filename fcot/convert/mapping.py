"""Which tensors of the original layout are which of the native one, and how fused ones are cut apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mapped:
    """A tensor of the original layout and what it is in the native one.

    Several native tensors may lie fused in an original one: its rows are then groups, and each group has a few rows
    of every part in turn.

    Attributes:
        original: Its name.
        native: Names of the native tensors, as `save_pretrained` writes them.
        shape: Shape of the original tensor.
        rows: Rows of each part in one group.
        groups: Number of groups.
    """

    original: str
    native: tuple[str, ...]
    shape: tuple[int, ...]
    rows: tuple[int, ...] = ()
    groups: int = 1

    @property
    def native_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the native tensors."""
        if len(self.native) == 1:
            return {self.native[0]: self.shape}
        parts = zip(self.native, self.rows, strict=True)
        return {name: (self.groups * rows, *self.shape[1:]) for name, rows in parts}

    def split(self, tensor: Tensor) -> list[tuple[str, Tensor]]:
        """Return names and tensors of the native layout."""
        if len(self.native) == 1:
            return [(self.native[0], tensor)]
        parts = tensor.unflatten(0, (self.groups, -1)).split(self.rows, dim=1)
        return [(name, part.flatten(0, 1)) for name, part in zip(self.native, parts, strict=True)]

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the original tensor; the inverse of `split`."""
        if len(self.native) == 1:
            return parts[0]
        return torch.cat([part.unflatten(0, (self.groups, -1)) for part in parts], dim=1).flatten(0, 1)


def renamed(original: str, native: str, *shape: int) -> Mapped:
    """Map one tensor to one."""
    return Mapped(original, (native,), shape)


def linear(original: str, native: str, rows: int, columns: int, *, bias: bool) -> Iterator[Mapped]:
    """Map weight `[rows, columns]` and bias `[rows]` of a linear layer."""
    yield renamed(f"{original}.weight", f"{native}.weight", rows, columns)
    if bias:
        yield renamed(f"{original}.bias", f"{native}.bias", rows)


def norm(original: str, native: str, width: int, *, bias: bool) -> Iterator[Mapped]:
    """Map weight and bias `[width]` of a normalisation."""
    yield renamed(f"{original}.weight", f"{native}.weight", width)
    if bias:
        yield renamed(f"{original}.bias", f"{native}.bias", width)


def fused_linear(
    original: str, native: Sequence[str], rows: Sequence[int], columns: int, *, groups: int = 1, bias: bool
) -> Iterator[Mapped]:
    """Map a linear layer of the original that holds several of the native layout.

    Args:
        original: Name of the fused layer.
        native: Names of its parts, in their order within a group.
        rows: Rows of each part in one group.
        columns: Width of the input.
        groups: How often the parts are repeated.
        bias: The layers have a bias.
    """
    total = groups * sum(rows)
    for kind, shape in (("weight", (total, columns)), ("bias", (total,))):
        if kind == "weight" or bias:
            yield Mapped(f"{original}.{kind}", tuple(f"{name}.{kind}" for name in native), shape, tuple(rows), groups)
