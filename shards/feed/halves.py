"""Two halves of a set's batches: one to find something on, the other to confirm it."""

from collections import Counter
from collections.abc import Iterable, Iterator

from fcot.batch import Batch


class Half:
    """Iterates over the first or the second half of each task's samples, in their order.

    Samples of one page follow each other in a set, so that halves by order keep most of them together. Of an odd number
    of samples the first half has one more.

    Args:
        loader: Gives the same batches each time.
        second: Give the second half.
    """

    def __init__(self, loader: Iterable[Batch], *, second: bool = False) -> None:
        self.loader, self.second = loader, second
        self.totals: Counter[str] | None = None  # samples of each task, once counted

    def __iter__(self) -> Iterator[Batch]:
        if self.totals is None:
            self.totals = Counter(task for batch in self.loader for task in batch.tasks)
        seen: Counter[str] = Counter()
        for batch in self.loader:
            chosen = []
            for row, task in enumerate(batch.tasks):
                if (seen[task] >= (self.totals[task] + 1) // 2) == self.second:
                    chosen.append(row)
                seen[task] += 1
            if chosen:
                yield batch if len(chosen) == len(batch) else batch.take(chosen)
