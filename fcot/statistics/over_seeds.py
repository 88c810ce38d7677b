"""Differences of two ways to train, over seeds and pages: nested bootstrap, and Holm's correction over tasks.

Shapes: S seeds, N pages of a task, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fcot.errors import UserError
from fcot.statistics.intervals import Interval, Scores, interval_of, series_by_group

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DifferenceOverSeeds:
    """How much higher the scores of one way to train are than those of another.

    Attributes:
        mean: Mean over seeds of the mean over tasks; `n` counts the pages of a seed.
        by_task: The same for each task.
        p_values: Two-sided, of "no difference", for each task; not corrected for their number: see `holm`.
        by_seed: The mean over tasks for each seed.
    """

    mean: Interval
    by_task: dict[str, Interval]
    p_values: dict[str, float]
    by_seed: list[float]


def paired_difference_over_seeds(
    a: Sequence[Mapping[str, Scores]],
    b: Sequence[Mapping[str, Scores]],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> DifferenceOverSeeds:
    """Return the difference `a - b` of two ways to train, each run once for each seed and tested on the same pages.

    The bootstrap is nested: a resample draws seeds, then pages within each task. All seeds share a draw of pages, as
    they share the test pages: what is particular to a page does not average out over seeds. The spread between
    seeds is multiplied by √(S/(S − 1)), because redrawing S seeds understates it, three by a fifth. Noise of single
    answers counts twice, in pages and in the seeds' means, so the interval may be wider than it need be. With one
    seed the interval is over pages alone.

    Args:
        a: For each seed, scores of one way by task, `[N]` each.
        b: The same of the other way: the same seeds, tasks and pages, in the same order.
        seed: Seed of the resampling.
        resamples: How many times seeds and pages are redrawn.
        confidence: Share of the resampled differences inside an interval.

    Raises:
        UserError: Seeds, tasks or pages differ or are missing, or a score is not a finite number.
    """
    differences = _differences(a, b)
    num_seeds = len(a)
    rng = np.random.default_rng(seed)
    drawn_seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=resamples) / num_seeds
    stretch = np.sqrt(num_seeds / (num_seeds - 1)) if num_seeds > 1 else 0.0
    resampled = {}
    for task, scores in differences.items():
        pages = _redrawn_pages(scores, rng, resamples)
        middle = pages.mean(axis=0)
        resampled[task] = middle + stretch * ((pages * drawn_seeds.T).sum(axis=0) - middle)
    mean = np.mean([scores.mean() for scores in differences.values()])
    of_mean = np.mean(list(resampled.values()), axis=0)
    num_pages = {task: scores.shape[1] for task, scores in differences.items()}
    return DifferenceOverSeeds(
        mean=interval_of(float(mean), of_mean, sum(num_pages.values()), confidence),
        by_task={
            task: interval_of(float(differences[task].mean()), values, num_pages[task], confidence)
            for task, values in resampled.items()
        },
        p_values={task: _two_sided(values) for task, values in resampled.items()},
        by_seed=np.mean([scores.mean(axis=1) for scores in differences.values()], axis=0).tolist(),
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number by Holm's method, which bounds the chance of any false finding.

    The smallest of m is multiplied by m, the next by m − 1, and so on; none becomes smaller than the one before it.
    """
    corrected, highest = {}, 0.0
    for place, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, value * (len(p_values) - place)))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def _differences(a: Sequence[Mapping[str, Scores]], b: Sequence[Mapping[str, Scores]]) -> dict[str, _Array]:
    """Return `a - b` by task, `[S, N]`."""
    if not a or len(a) != len(b):
        raise UserError(f"There are {len(a)} seeds of one way and {len(b)} of the other.\nPass the same seeds of both.")
    runs = series_by_group([*a, *b])
    return {task: scores[: len(a)] - scores[len(a) :] for task, scores in runs.items()}


def _redrawn_pages(scores: _Array, rng: np.random.Generator, resamples: int) -> _Array:
    """Return each seed's mean over redrawn pages, the same for all seeds: `[S, N]` becomes `[S, R]`."""
    num_pages = scores.shape[1]
    counts = rng.multinomial(num_pages, np.full(num_pages, 1 / num_pages), size=resamples)
    means: _Array = scores @ counts.T / num_pages
    return means


def _two_sided(resampled: _Array) -> float:
    """Return twice the share of resampled differences on the rarer side of 0; one more resample counts as there."""
    rarer = min(np.sum(resampled <= 0), np.sum(resampled >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (len(resampled) + 1)))
