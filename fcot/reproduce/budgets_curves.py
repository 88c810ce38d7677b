"""Curves of KL over visual tokens, compared at equal tokens by redrawing pages.

Shapes: P pages, R times that pages are redrawn; row 0 of what has R + 1 rows is the pages as they are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fcot.reproduce.budgets_measured import BUDGETS
from fcot.reproduce.budgets_policies import RANDOM_SEEDS
from fcot.statistics import Interval
from fcot.statistics.intervals import interval_of

Array = npt.NDArray[np.float64]
RESAMPLES = 2000
CURVES = ("router", "oracle", "rule", "ink", "jpeg", "random", "shuffled")
STEPS = 33  # of the area between curves


class Curves:
    """Curves of some rules on the same pages.

    Args:
        folder: Where the findings are.
        pages: Numbers of the pages that count (default: all).
        seed: Of the redrawing.
    """

    def __init__(self, folder: Path, pages: Sequence[int] | None = None, seed: int = 0) -> None:
        self.folder = folder
        tiles = read(folder, "pages")["tiles"]
        self.pages = [*range(len(tiles))] if pages is None else [*pages]
        number = len(self.pages)
        drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
        self.counts: Array = np.concatenate([np.ones((1, number)), drawn])
        self.tiles = self.counts @ np.array(tiles, dtype=np.float64)[self.pages]
        self.ends = sorted(int(file.stem.split("-")[1]) for file in folder.glob("always-*.json"))

    def point(self, name: str, what: str = "kl") -> tuple[Array, Array]:
        """Return the mean tokens of a tile and the mean of a figure over pages `[R + 1]`."""
        names = [name]
        if name.startswith("random-"):
            names = [f"random{number}-{name.split('-')[1]}" for number in range(RANDOM_SEEDS)]
        found = [read(self.folder, each) for each in names]
        tokens, figure = (
            np.mean([np.array(each[key], dtype=np.float64)[self.pages] for each in found], axis=0)
            for key in ("tokens", what)
        )
        return self.counts @ tokens / self.tiles, self.counts @ figure / self.counts.sum(1)

    def curve(self, rule: str, what: str = "kl") -> tuple[Array, Array]:
        """Return a rule's mean tokens and figures `[R + 1, points]`, from the fewest tokens to whole tiles."""
        if rule == "always":
            names = [f"always-{tokens}" for tokens in self.ends]
        else:
            names = [f"always-{self.ends[0]}", *(f"{rule}-{budget}" for budget in BUDGETS), f"always-{self.ends[-1]}"]
        points = [self.point(name, what) for name in names]
        return np.stack([tokens for tokens, _ in points], 1), np.stack([figure for _, figure in points], 1)

    def at(self, rule: str, tokens: float, what: str = "kl") -> Array:
        """Return a rule's figure at a number of tokens, between the neighbouring budgets `[R + 1]`."""
        return interpolated(tokens, *self.curve(rule, what))

    def area(self, rule: str) -> Array:
        """Return the area under a rule's curve over log₂ of the tokens `[R + 1]`."""
        logs = np.linspace(np.log2(self.ends[0]), np.log2(self.ends[-1]), STEPS)
        curve = self.curve(rule)
        figures = np.stack([interpolated(float(2**log), *curve) for log in logs], 1)
        return np.asarray((figures[:, 1:] + figures[:, :-1]).sum(1) / 2 * (logs[1] - logs[0]))

    def interval(self, figures: Array) -> Interval:
        """Return a figure `[R + 1]` with its interval."""
        return interval_of(float(figures[0]), figures[1:], len(self.pages), 0.95)


def interpolated(at: float, tokens: Array, figures: Array) -> Array:
    """Return each row's figure at a number of tokens, on the line between its neighbouring points `[rows]`.

    Args:
        at: The number of tokens; beyond a row's points, the figure of the nearest counts.
        tokens: Of each row's points `[rows, points]`.
        figures: Of each row's points `[rows, points]`.
    """
    order, rows = np.argsort(tokens, axis=1, kind="stable"), np.arange(len(tokens))
    tokens, figures = (np.take_along_axis(each, order, 1) for each in (tokens, figures))
    left = ((tokens <= at).sum(1) - 1).clip(0, tokens.shape[1] - 2)
    width = tokens[rows, left + 1] - tokens[rows, left]
    share = ((at - tokens[rows, left]) / np.where(width > 0, width, 1)).clip(0, 1)
    return np.asarray(figures[rows, left] * (1 - share) + figures[rows, left + 1] * share)


def read(folder: Path, name: str) -> dict[str, Any]:
    """Return a finding."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def said(interval: Interval, digits: int = 3, sign: bool = False) -> str:
    """Return a figure with its interval as text."""
    mark = "+" if sign else ""
    return f"{interval.mean:{mark}.{digits}f} [{interval.low:{mark}.{digits}f}, {interval.high:{mark}.{digits}f}]"


def by_task(folder: Path) -> Mapping[str, list[int]]:
    """Return the numbers of the pages of each task."""
    found: dict[str, list[int]] = {}
    for number, task in enumerate(read(folder, "pages")["tasks"]):
        found.setdefault(task, []).append(number)
    return dict(sorted(found.items()))
