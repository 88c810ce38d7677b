"""Percentile bootstrap intervals of mean scores over samples, for one model and for two.

Shapes: R resamples, N samples of a group, S series that share their samples (two models on one test set).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fcot.errors import UserError

Scores: TypeAlias = npt.ArrayLike  # one number per sample: a list, an array or a CPU tensor
_Array: TypeAlias = npt.NDArray[np.float64]

_DRAWS_AT_ONCE = 1 << 20  # bounds the memory of a resampling to some tens of megabytes


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval.

    Attributes:
        mean: The figure on the samples themselves.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of samples behind the figure.
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap_interval(scores: Scores, *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95) -> Interval:
    """Return the mean of per-sample scores with its interval.

    Args:
        scores: One score per sample, `[samples]`.
        seed: Seed of the resampling; the same seed gives the same interval.
        resamples: How many times the samples are redrawn, with replacement.
        confidence: Share of the resampled means inside the interval.

    Returns:
        The mean and its interval.

    Raises:
        UserError: There are no scores, or one is not a finite number.
    """
    return bootstrap_interval_by_group({"scores": scores}, seed=seed, resamples=resamples, confidence=confidence)


def bootstrap_interval_by_group(
    scores_by_group: Mapping[str, Scores], *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> Interval:
    """Return the mean of the groups' means with its interval, resampling within each group.

    Args:
        scores_by_group: The scores of each group (a task, a benchmark), `[samples]` each. Groups weigh the same
            whatever their size and order.
        seed: Seed of the resampling.
        resamples: How many times the samples are redrawn.
        confidence: Share of the resampled means inside the interval.

    Returns:
        The mean over groups and its interval; `n` counts the samples of all groups.

    Raises:
        UserError: There is no group, or one is empty or holds something other than finite numbers.
    """
    groups = _aligned_groups([scores_by_group])
    (means,) = _resampled_means(groups, seed, resamples)
    (mean,) = _means(groups)
    return interval_of(mean, means, _samples(groups), confidence)


def paired_difference(
    a: Scores, b: Scores, *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> Interval:
    """Return the mean of `a - b` with its interval, resampling pairs.

    Args:
        a: Scores of one model, `[samples]`.
        b: Scores of the other on the same samples in the same order, `[samples]`.
        seed: Seed of the resampling.
        resamples: How many times the pairs are redrawn.
        confidence: Share of the resampled differences inside the interval.

    Returns:
        The mean difference and its interval.

    Raises:
        UserError: The lengths differ, there are no scores, or one is not a finite number.
    """
    return paired_difference_by_group(
        {"scores": a}, {"scores": b}, seed=seed, resamples=resamples, confidence=confidence
    )


def paired_difference_by_group(
    a_by_group: Mapping[str, Scores],
    b_by_group: Mapping[str, Scores],
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the difference of two means over groups with its interval, resampling pairs within each group.

    Args:
        a_by_group: Scores of one model in each group, `[samples]` each.
        b_by_group: Scores of the other on the same groups and samples, in the same order.
        seed: Seed of the resampling.
        resamples: How many times the pairs are redrawn.
        confidence: Share of the resampled differences inside the interval.

    Returns:
        The mean over groups of `a - b`, and its interval.

    Raises:
        UserError: The groups or their lengths differ, a group is empty, or a score is not a finite number.
    """
    pairs = _aligned_groups([a_by_group, b_by_group])
    differences = {name: pair[0] - pair[1] for name, pair in zip(sorted(a_by_group), pairs, strict=True)}
    return bootstrap_interval_by_group(differences, seed=seed, resamples=resamples, confidence=confidence)


def paired_ratio(a: Scores, b: Scores, *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95) -> Interval:
    """Return mean `a` over mean `b` with its interval: how much of the teacher's score the student keeps.

    Args:
        a: Scores of one model, `[samples]`.
        b: Scores of the other on the same samples in the same order, `[samples]`.
        seed: Seed of the resampling.
        resamples: How many times the pairs are redrawn.
        confidence: Share of the resampled ratios inside the interval.

    Returns:
        The ratio of the means and its interval. `high` is infinite if so few scores in `b` are not 0 that many
        resamples have none of them.

    Raises:
        UserError: The lengths differ, there are no scores, one is not a finite number, or mean `b` is 0.
    """
    return paired_ratio_by_group({"scores": a}, {"scores": b}, seed=seed, resamples=resamples, confidence=confidence)


def paired_ratio_by_group(
    a_by_group: Mapping[str, Scores],
    b_by_group: Mapping[str, Scores],
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the ratio of two means over groups with its interval, resampling pairs within each group.

    Args:
        a_by_group: Scores of one model in each group, `[samples]` each.
        b_by_group: Scores of the other on the same groups and samples, in the same order.
        seed: Seed of the resampling.
        resamples: How many times the pairs are redrawn.
        confidence: Share of the resampled ratios inside the interval.

    Returns:
        The mean over groups of `a` divided by that of `b`, and its interval.

    Raises:
        UserError: The groups or their lengths differ, a group is empty, a score is not a finite number,
            or the mean of `b` is 0.
    """
    groups = _aligned_groups([a_by_group, b_by_group])
    mean_a, mean_b = _means(groups)
    if mean_b == 0:
        raise UserError("The mean of b is 0, so a has no ratio to it; use paired_difference instead.")
    resampled_a, resampled_b = _resampled_means(groups, seed, resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = resampled_a / resampled_b
    # A resample in which both means are 0 says nothing about their ratio.
    return interval_of(mean_a / mean_b, ratios[~np.isnan(ratios)], _samples(groups), confidence)


def resampled_means(
    series: Sequence[Mapping[str, Scores]], *, seed: int = 0, resamples: int = 2000
) -> npt.NDArray[np.float64]:
    """Return the mean over groups of each of several series on each resample, all series sharing the resamples.

    A resample of a group of n draws n - 1 (Rao and Wu 1988), or a few samples a group would seem to vary by too little.

    Args:
        series: Scores of each series by group, `[samples]` each: the same groups and samples in the same order.
        seed: Seed of the resampling.
        resamples: How many times the samples are redrawn.

    Returns:
        The means, `[S, R]`.

    Raises:
        UserError: The groups or their lengths differ, a group is empty, or a score is not a finite number.
    """
    return _resampled_means(_aligned_groups(series), seed, resamples, fewer=1)


def _aligned_groups(series: Sequence[Mapping[str, Scores]]) -> list[_Array]:
    return [*series_by_group(series).values()]


def series_by_group(series: Sequence[Mapping[str, Scores]]) -> dict[str, _Array]:
    """Stack series over their common groups, ordered by name: one `[S, N]` array per group.

    Raises:
        UserError: The groups or their lengths differ, a group is empty, or a score is not a finite number.
    """
    names = sorted(series[0])
    if not names:
        raise UserError("There are no groups of scores; pass at least one.")
    for other in series[1:]:
        if sorted(other) != names:
            raise UserError(f"Groups {names} are paired with {sorted(other)}; pass the same groups in both.")
    groups = {}
    for name in names:
        columns = [_checked(name, one[name]) for one in series]
        if len({len(column) for column in columns}) > 1:
            lengths = " and ".join(str(len(column)) for column in columns)
            raise UserError(
                f"The paired {name!r} have {lengths} samples; pass both scores of every sample, in the same order."
            )
        groups[name] = np.stack(columns)
    return groups


def _checked(name: str, scores: Scores) -> _Array:
    """Return the scores of a group as an array `[N]` of at least one finite number."""
    column = np.asarray(scores, dtype=np.float64)
    if column.ndim != 1:
        raise UserError(f"{name!r} has the shape {column.shape}; pass one score per sample.")
    if not column.size:
        raise UserError(f"{name!r} is empty, so it has no mean; pass at least one score.")
    if not np.isfinite(column).all():
        index = int(np.flatnonzero(~np.isfinite(column))[0])
        raise UserError(f"{name!r} holds {column[index]} at sample {index}; pass finite numbers only.")
    return column


def _means(groups: Sequence[_Array]) -> _Array:
    """Return the mean of the groups' means of each series, `[S]`."""
    means: _Array = np.mean([group.mean(axis=1) for group in groups], axis=0)
    return means


def _resampled_means(groups: Sequence[_Array], seed: int, resamples: int, fewer: int = 0) -> _Array:
    """Resample each group by `fewer` samples than it has, the same draws for all series, and average: `[S, R]`."""
    if resamples < 1:
        raise UserError(f"resamples is {resamples}; give at least 1.")
    rng = np.random.default_rng(seed)
    total = np.zeros((len(groups[0]), resamples))
    for group in groups:
        num_samples = group.shape[1]
        step = max(1, _DRAWS_AT_ONCE // num_samples)
        for start in range(0, resamples, step):
            stop = min(start + step, resamples)
            drawn = rng.integers(num_samples, size=(stop - start, max(1, num_samples - fewer)))
            for series, scores in enumerate(group):
                total[series, start:stop] += scores[drawn].mean(axis=1)
    return total / len(groups)


def _samples(groups: Sequence[_Array]) -> int:
    return sum(group.shape[1] for group in groups)


def interval_of(mean: float, resampled: _Array, n: int, confidence: float) -> Interval:
    """Cut the tails off resampled figures `[R]` without interpolating, so that an end may be inf.

    Args:
        mean: The figure on the samples themselves.
        resampled: The figure on each resample.
        n: Number of samples.
        confidence: Share of the resampled figures inside the interval.

    Raises:
        UserError: The confidence is no share.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence is {confidence}; pass a share between 0 and 1, such as 0.95.")
    ordered = np.sort(resampled)
    tail = (1 - confidence) / 2 * (len(ordered) - 1)
    low, high = ordered[int(tail)], ordered[len(ordered) - 1 - int(tail)]
    return Interval(float(mean), float(low), float(high), n)
