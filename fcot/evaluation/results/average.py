"""The average of a row, and two models in pairs, on a column and on the average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcot.evaluation.benchmarks.benchmark import Column
from fcot.statistics import Interval, bootstrap_interval_by_group, paired_difference_by_group, paired_ratio_by_group

DEFINITION = (
    "mean over the columns that all measured models have; MME, which is no percentage, and further splits are left out"
)

Groups = dict[str, list[float]]


@dataclass(frozen=True)
class Pair:
    """How a model compares with another, on the units that both have.

    Attributes:
        difference: Its figure minus the other's.
        ratio: Its figure over the other's, None if that is 0.
        unmatched: How many units only one of them has.
    """

    difference: Interval
    ratio: Interval | None
    unmatched: int


def averaged(columns: Sequence[Mapping[str, Column]]) -> list[str]:
    """Return the names of the columns that an average is over."""
    common = [name for name in columns[0] if all(name in each for each in columns)] if columns else []
    return [name for name in common if columns[0][name].in_average]


def average(columns: Mapping[str, Column], names: Sequence[str], *, seed: int = 0) -> Interval:
    """Return a model's average with its interval, units resampled within each group of each column."""
    return bootstrap_interval_by_group(
        _weighted({name: (columns[name].scale, columns[name].groups) for name in names}), seed=seed
    )


def pair(one: Column, other: Column, *, seed: int = 0) -> Pair | None:
    """Return how a column compares with another model's, None if they have no unit in common."""
    return pair_average({one.name: one}, {one.name: other}, [one.name], seed=seed)


def pair_average(
    one: Mapping[str, Column], other: Mapping[str, Column], names: Sequence[str], *, seed: int = 0
) -> Pair | None:
    """Return how a model's average compares with another's, None if a column has no unit in common."""
    matched = {name: _matched(one[name], other[name]) for name in names}
    if not all(groups for groups, _ in matched.values()):
        return None
    its = _weighted({name: (one[name].scale, groups) for name, (groups, _) in matched.items()})
    others = _weighted({name: (one[name].scale, groups) for name, (_, groups) in matched.items()})
    some = any(score for groups in others.values() for score in groups)
    return Pair(
        paired_difference_by_group(its, others, seed=seed),
        paired_ratio_by_group(its, others, seed=seed) if some else None,
        sum(_unmatched(one[name], other[name]) for name in names),
    )


def _matched(one: Column, other: Column) -> tuple[Groups, Groups]:
    """Return scores of the units that both columns have, by group, in the same order."""
    groups: Groups = {}
    others: Groups = {}
    for group, units in one.units.items():
        common = sorted(units.keys() & other.units.get(group, {}).keys())
        if common:
            groups[group] = [units[key] for key in common]
            others[group] = [other.units[group][key] for key in common]
    return groups, others


def _unmatched(one: Column, other: Column) -> int:
    """Return how many units only one of two columns has."""
    first, second = ({(group, key) for group, its in each.units.items() for key in its} for each in (one, other))
    return len(first ^ second)


def _weighted(columns: Mapping[str, tuple[float, Groups]]) -> Groups:
    """Return the groups of columns, given with their scales, so that the mean over groups is the mean over columns.

    A column's value is its scale times the mean over its groups, however many they are.
    """
    number = sum(len(groups) for _, groups in columns.values())
    found: Groups = {}
    for name, (scale, groups) in columns.items():
        weight = scale * number / len(columns) / len(groups)
        found.update({f"{name}/{group}": [weight * score for score in each] for group, each in groups.items()})
    return found
