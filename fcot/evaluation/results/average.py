"""The average of a row: the mean over the columns that all measured models have and that count from 0 to 100."""

from collections.abc import Mapping, Sequence

from fcot.evaluation.benchmarks.benchmark import Column
from fcot.statistics import Interval, paired_difference_by_group

DEFINITION = "mean over the columns that all measured models have; MME, which is no percentage, is left out"


def averaged(columns: Sequence[Mapping[str, Column]]) -> list[str]:
    """Return the names of the columns that an average is over."""
    common = [name for name in columns[0] if all(name in each for each in columns)] if columns else []
    return [name for name in common if columns[0][name].in_average]


def average(columns: Mapping[str, Column], names: Sequence[str]) -> float:
    """Return a model's average."""
    return sum(columns[name].value for name in names) / len(names)


def pair(one: Column, other: Column, *, seed: int = 0) -> Interval:
    """Return how much a column is above another's, on the units that both have, with its interval."""
    groups, others = _matched(one, other)
    found = paired_difference_by_group(groups, others, seed=seed)
    return Interval(one.scale * found.mean, one.scale * found.low, one.scale * found.high, found.n)


def pair_average(
    one: Mapping[str, Column], other: Mapping[str, Column], names: Sequence[str], *, seed: int = 0
) -> Interval:
    """Return how much a model's average is above another's, units resampled within each group of each column."""
    matched = {name: _matched(one[name], other[name]) for name in names}
    number = sum(len(groups) for groups, _ in matched.values())
    weighted: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    for name, sides in matched.items():
        # the mean over all groups of these is the mean over columns of each column's mean over its groups
        weight = one[name].scale / len(names) / len(sides[0]) * number
        for into, groups in zip(weighted, sides, strict=True):
            into.update({f"{name}/{group}": [weight * score for score in each] for group, each in groups.items()})
    return paired_difference_by_group(*weighted, seed=seed)


def _matched(one: Column, other: Column) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return scores of the units that both columns have, by group, in the same order."""
    groups: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for group, units in one.units.items():
        common = sorted(units.keys() & other.units.get(group, {}).keys())
        if common:
            groups[group] = [units[key] for key in common]
            others[group] = [other.units[group][key] for key in common]
    return groups, others
