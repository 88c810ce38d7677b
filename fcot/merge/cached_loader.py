"""Decode pages once that a merge reads for every mixture it scores."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class CachedLoader(Generic[T]):
    """Iterates over a loader's batches again and again, decoding them once if they fit in memory.

    Args:
        loader: Gives the same batches each time.
        size: Gives the bytes of a batch.
        most: Bytes to keep; if the batches are larger, every pass reads the loader again.
    """

    def __init__(self, loader: Iterable[T], size: Callable[[T], int], most: int = 2**30) -> None:
        self.loader, self.size, self.most = loader, size, most
        self.kept: list[T] | None = None

    def __iter__(self) -> Iterator[T]:
        if self.kept is not None:
            yield from self.kept
            return
        kept: list[T] | None = []
        total = 0
        for batch in self.loader:
            total += self.size(batch)
            kept = None if kept is None or total > self.most else [*kept, batch]
            yield batch
        self.kept = kept
