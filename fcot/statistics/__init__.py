"""How sure a mean of scores is; needs numpy alone, so that a merge can ask it too."""

from fcot.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_interval_by_group,
    paired_difference,
    paired_difference_by_group,
    paired_ratio,
    paired_ratio_by_group,
)
from fcot.statistics.proportion import proportion_interval

__all__ = [
    "Interval",
    "bootstrap_interval",
    "bootstrap_interval_by_group",
    "paired_difference",
    "paired_difference_by_group",
    "paired_ratio",
    "paired_ratio_by_group",
    "proportion_interval",
]
