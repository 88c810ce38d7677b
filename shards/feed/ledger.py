"""Keep account of samples: each is consumed, skipped or quarantined, and what could not be used is named."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fcot.errors import UserError


@dataclass(frozen=True)
class Skip:
    """A sample that was not used.

    Attributes:
        shard: Folder and file of its shard.
        key: Its key; "" for a lost stretch of a shard.
        reason: One word or two joined by "_", for counting.
        detail: What is wrong.
        id: What the sample calls itself; None if it has no name or none is known.
    """

    shard: str
    key: str
    reason: str
    detail: str
    id: str | int | None = None

    def json(self) -> dict[str, Any]:
        """Return it as JSON, without an id if there is none."""
        return {name: value for name, value in asdict(self).items() if name != "id" or value is not None}


class Ledger:
    """Counts the samples that were handed over, skipped and quarantined, and names the latter two in a file.

    It lives in the process that takes the batches: samples that a data worker reads ahead but nobody takes are not
    counted. Each process has its own ledger; only all of them `together` account for the set.

    Args:
        path: The `skipped.jsonl`; one line a sample that is not used. None keeps only the counts.
        split: Whose samples these are; ledgers of several splits share a file.
        total: Samples in the set, if known.
        max_skipped: Largest share of the set that may be skipped.
        strict: Allow none to be skipped.
    """

    def __init__(
        self, path: Path | None, total: int | None, max_skipped: float, split: str = "train", *, strict: bool = False
    ) -> None:
        self.path = path
        self.split = split
        self.total = total
        self.max_skipped = max_skipped
        self.strict = strict
        self.consumed = 0
        self.reasons: Counter[str] = Counter()
        self._named: set[Skip] = set()
        self._before = 0

    @property
    def seen(self) -> int:
        """Samples looked at so far, used or not."""
        return self.consumed + self.skipped

    @property
    def skipped(self) -> int:
        """Samples not used so far, skipped when they were read or quarantined before."""
        return self.reasons.total()

    def counts(self) -> dict[str, Any]:
        """Return how many were used, and how many were not by reason, in plain types."""
        return {"consumed": self.consumed, "reasons": dict(self.reasons)}

    def add(self, counts: Mapping[str, Any]) -> None:
        """Add the counts of another process, or of the run that a checkpoint was written in."""
        self.consumed += counts["consumed"]
        self.reasons.update(counts["reasons"])

    def together(self, parts: Iterable[Mapping[str, Any]]) -> "Ledger":
        """Return a ledger of the same set with the counts of several processes."""
        found = Ledger(self.path, self.total, self.max_skipped, self.split, strict=self.strict)
        for counts in parts:
            found.add(counts)
        return found

    def begin(self, quarantined: Sequence[Skip]) -> None:
        """Start a pass over the set; its quarantined samples are accounted for at once."""
        self._before = self.seen
        self.take(0, quarantined)

    def take(self, consumed: int, skips: Sequence[Skip]) -> None:
        """Account for a batch.

        Args:
            consumed: Samples in it.
            skips: Samples that should be in it and could not be used.

        Raises:
            UserError: If nothing may be skipped.
        """
        self.consumed += consumed
        for skip in skips:
            self.reasons[skip.reason] += 1
            self.name(skip)
            if self.strict:
                raise UserError(
                    f"{skip.shard} {skip.key!r}: {skip.reason}, {skip.detail}.\n"
                    "Mend or leave out the sample, or skip such samples with --data.strict false."
                )

    def name(self, skip: Skip) -> None:
        """Write a line for what is not used, once, without counting it.

        Raises:
            UserError: If it cannot be written.
        """
        if self.path is None or skip in self._named:
            return
        self._named.add(skip)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"split": self.split, **skip.json()}) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}), and no sample is left out without a name.\n"
                "Make room or mend the folder, then go on with --ckpt_path last."
            ) from error

    def close(self, expected: int) -> None:
        """End a pass that went to the end of the set.

        Args:
            expected: Samples of the set that were this process's in this pass, quarantined ones included.

        Raises:
            UserError: If they do not add up: samples were lost, or read twice.
        """
        found = self.seen - self._before
        if found != expected:
            raise UserError(
                f"The {self.split} set should give {expected} samples in this pass, and {found} were consumed, "
                f"skipped or quarantined.\nSamples were lost or read twice on the way, which must not happen: "
                "please report it with the run's config.yaml."
            )

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
        return ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
