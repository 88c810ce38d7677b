"""Metrics of generated answers, equal to the official evaluation scripts, and their uncertainty."""

from collections.abc import Mapping, Sequence

from fcot.errors import UserError
from fcot.metrics.anls import ANLS
from fcot.metrics.answer_metric import AnswerMetric
from fcot.metrics.character_error_rate import CharacterErrorRate
from fcot.metrics.contains import Contains
from fcot.metrics.exact_match import ExactMatch
from fcot.metrics.option_letter import OptionLetter
from fcot.metrics.relaxed_accuracy import RelaxedAccuracy
from fcot.metrics.vqa_accuracy import VQAAccuracy
from fcot.metrics.yes_no import YesNo
from fcot.registry import Registry
from fcot.statistics import (
    Interval,
    bootstrap_interval,
    bootstrap_interval_by_group,
    paired_difference,
    paired_difference_by_group,
    paired_ratio,
    paired_ratio_by_group,
)

__all__ = [
    "ANLS",
    "METRICS",
    "AnswerMetric",
    "CharacterErrorRate",
    "Contains",
    "ExactMatch",
    "Interval",
    "OptionLetter",
    "RelaxedAccuracy",
    "VQAAccuracy",
    "YesNo",
    "bootstrap_interval",
    "bootstrap_interval_by_group",
    "check_metrics",
    "paired_difference",
    "paired_difference_by_group",
    "paired_ratio",
    "paired_ratio_by_group",
]


METRICS: Registry[type[AnswerMetric]] = Registry("metric", base=AnswerMetric)


def check_metrics(metrics: Mapping[str, Sequence[str]]) -> None:
    """Check the metrics of tasks before hours of training.

    Args:
        metrics: Metric names for each task; the first is the one that counts.

    Raises:
        UserError: A name is unknown, or lower is better for a task's first metric: means over tasks, merges and
            comparisons use that metric and take higher for better.
    """
    for task, names in metrics.items():
        for place, name in enumerate(names):
            if not METRICS[name].higher_is_better and not place:
                better = ", ".join(each for each, kind in METRICS.items() if kind.higher_is_better)
                raise UserError(
                    f"The first metric of task {task!r} is {name}, where lower is better; means, merges and "
                    f"comparisons use the first metric and take higher for better.\nPut one of {better} before it."
                )
