"""Scores of mixtures by page, kept on disk as they are found, so that a killed merge goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from fcot.errors import UserError
from fcot.merge.combine import Combination

PageScores = Mapping[str, Sequence[float]]  # of each task, in page order
Utility = Callable[[Mapping[str, Tensor]], float | PageScores]


def mean_over_tasks(scores: PageScores) -> float:
    """Return the mean of the tasks' mean scores."""
    return float(np.mean([np.mean(each) for each in scores.values()]))


class ScoreBook:
    """Scores mixtures of one base and its snapshots, each mixture once, across runs.

    A score is one line of JSON, on disk before the next mixture is scored. Its key is a hash of what was scored: the
    base, the snapshots mixed in, their weights and the utility. Half a line, left by a kill, is cut off.

    Args:
        file: The cache, created if missing.
        utility: Scores the given weights; higher is better. It returns a number, or the scores of pages by task, whose
            mean over tasks counts.
        base: Fingerprint of θ_base.
        checkpoints: Fingerprints of θ_1 … θ_N.
        utility_fingerprint: Text that tells this utility from another, such as the split and its size.
    """

    def __init__(
        self, file: Path, utility: Utility, *, base: str, checkpoints: Sequence[str], utility_fingerprint: str
    ) -> None:
        self._file = file
        self._utility = utility
        self._base = base
        self._checkpoints = tuple(checkpoints)
        self._utility_fingerprint = utility_fingerprint
        self._asked: set[str] = set()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._scores, self._pages = _read_whole_lines(file)

    @property
    def evaluations(self) -> int:
        """How many different mixtures were asked for, including those scored in an earlier run."""
        return len(self._asked)

    def __call__(self, mixture: Combination | Mapping[str, Tensor], made_by: str = "") -> float:
        """Score a mixture, or recall its score.

        Args:
            mixture: What to score.
            made_by: Method and options as JSON, for tensors that are not a weighted mixture.

        Raises:
            UserError: If the utility is not a finite number.
        """
        key = self._key_of(mixture, made_by)
        if key not in self._scores:
            weights = mixture.weights if isinstance(mixture, Combination) else None
            found = self._utility(mixture)
            pages = None
            if isinstance(found, Mapping):
                pages = {task: [float(score) for score in scores] for task, scores in found.items()}
            score = float(found) if not isinstance(found, Mapping) else mean_over_tasks(found)
            if not math.isfinite(score):
                what = made_by if weights is None else f"weights {list(weights)}"
                raise UserError(
                    f"The utility of the mixture with {what} is {score}. "
                    "Return a finite number, higher for better weights."
                )
            self._append({"key": key, "weights": weights, "utility": score, **({"pages": pages} if pages else {})})
            self._scores[key] = score
            if pages:
                self._pages[key] = pages
        self._asked.add(key)
        return self._scores[key]

    def pages(self, mixture: Mapping[str, Tensor], made_by: str = "") -> PageScores | None:
        """Return the scores of pages of a mixture that was scored; None if the utility gave one number."""
        return self._pages.get(self._key_of(mixture, made_by))

    def _key_of(self, mixture: Mapping[str, Tensor], made_by: str) -> str:
        return self._key(mixture.weights if isinstance(mixture, Combination) else made_by)

    def _key(self, weights: Sequence[float] | str) -> str:
        if isinstance(weights, str):
            made = json.dumps([self._base, self._checkpoints, weights, self._utility_fingerprint])
            return hashlib.sha256(made.encode()).hexdigest()
        pairs = zip(self._checkpoints, weights, strict=True)
        used = [[checkpoint, weight.hex()] for checkpoint, weight in pairs if weight != 0.0]
        what = json.dumps([self._base, used, self._utility_fingerprint])
        return hashlib.sha256(what.encode()).hexdigest()

    def _append(self, record: Mapping[str, object]) -> None:
        with self._file.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _read_whole_lines(file: Path) -> tuple[dict[str, float], dict[str, PageScores]]:
    """Read the scores, and cut off an unfinished last line so that the next score starts a new one."""
    scores: dict[str, float] = {}
    pages: dict[str, PageScores] = {}
    if not file.exists():
        return scores, pages
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(file, len(whole))
    for line in whole.splitlines():
        try:
            record = json.loads(line)
            scores[record["key"]] = float(record["utility"])
            if "pages" in record:
                pages[record["key"]] = record["pages"]
        except (ValueError, KeyError, TypeError):
            continue  # an unreadable line costs one evaluation, not the merge
    return scores, pages
