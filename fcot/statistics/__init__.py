"""How sure a mean of scores is; needs numpy alone, so that a merge can ask it too."""

from fcot.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_interval_by_group,
    interval_of,
    paired_difference,
    paired_difference_by_group,
    paired_ratio,
    paired_ratio_by_group,
    resampled_means,
)
from fcot.statistics.over_seeds import DifferenceOverSeeds, holm, paired_difference_over_seeds
from fcot.statistics.proportion import proportion_interval

__all__ = [
    "DifferenceOverSeeds",
    "Interval",
    "bootstrap_interval",
    "bootstrap_interval_by_group",
    "holm",
    "interval_of",
    "paired_difference",
    "paired_difference_by_group",
    "paired_difference_over_seeds",
    "paired_ratio",
    "paired_ratio_by_group",
    "proportion_interval",
    "resampled_means",
]
