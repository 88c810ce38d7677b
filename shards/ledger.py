"""Keep count of samples that could not be used: nothing is dropped in silence."""

import json
from collections import Counter
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from fcot.errors import UserError
from fcot.internvl.tokens import SampleError

MAX_WORKERS = 256


class Ledger:
    """Counts samples seen and skipped, across data workers, and names each skipped one in a file.

    Args:
        path: The `skipped.jsonl`; one line a skipped sample. None keeps only the counts.
        split: Whose samples these are; ledgers of several splits share a file.
        total: Samples in the set, if known.
        max_skipped: Largest share of the set that may be skipped.
    """

    def __init__(self, path: Path | None, total: int | None, max_skipped: float, split: str = "train") -> None:
        self.path = path
        self.split = split
        self.total = total
        self.max_skipped = max_skipped
        self._start = path.stat().st_size if path is not None and path.exists() else 0  # an earlier run's lines
        # seen and skipped, a row for each worker: two that add to one number at once would lose counts
        with torch.inference_mode(False):  # a loader may be made in a test loop; such a tensor could never count
            self._counts = torch.zeros(MAX_WORKERS, 2, dtype=torch.int64).share_memory_()

    @property
    def seen(self) -> int:
        """Samples looked at so far, used or not."""
        return int(self._counts[:, 0].sum())

    @property
    def skipped(self) -> int:
        """Samples skipped so far."""
        return int(self._counts[:, 1].sum())

    def _row(self) -> torch.Tensor:
        worker = get_worker_info()
        row: torch.Tensor = self._counts[0 if worker is None else worker.id % MAX_WORKERS]
        return row

    def saw(self) -> None:
        """Count one sample."""
        self._row()[0] += 1

    def skip(self, shard: str, key: str, error: SampleError) -> None:
        """Count and name one skipped sample."""
        self._row()[1] += 1
        if self.path is not None:
            line = {"split": self.split, "shard": shard, "key": key, "reason": error.reason, "detail": str(error)}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def check(self, *, final: bool = False) -> None:
        """Stop the run when too much of the set is unusable.

        Args:
            final: The set has been read to its end, so what was seen is the whole.

        Raises:
            UserError: If more than `max_skipped` of the set was skipped.
        """
        whole = self.seen if final else max(self.total or 1000, self.seen)
        if self.skipped > self.max_skipped * whole:
            named = "" if self.path is None else f"They are named in {self.path}. "
            raise UserError(
                f"{self.skipped} of {whole} samples could not be used, more than max_skipped="
                f"{self.max_skipped:.2%} ({self.summary()}).\n{named}Mend them, or raise --data.max_skipped."
            )

    def summary(self) -> str:
        """Return counts by reason, such as "2 no_answer, 1 undecodable_image"."""
        if self.path is None or not self.path.exists():
            return f"{self.skipped} skipped"
        with self.path.open(encoding="utf-8") as file:
            file.seek(self._start)
            lines = [json.loads(line) for line in file]
        reasons = Counter(line["reason"] for line in lines if line["split"] == self.split)
        return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
