"""Metrics of generated answers, equal to the official evaluation scripts, and their uncertainty."""

import difflib
import re
from collections.abc import Mapping, Sequence

from fcot.errors import UserError
from fcot.metrics.anls import ANLS
from fcot.metrics.answer_metric import AnswerMetric
from fcot.metrics.character_error_rate import CharacterErrorRate
from fcot.metrics.exact_match import ExactMatch
from fcot.metrics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_interval_by_group,
    paired_difference,
    paired_difference_by_group,
    paired_ratio,
    paired_ratio_by_group,
)
from fcot.metrics.relaxed_accuracy import RelaxedAccuracy
from fcot.metrics.vqa_accuracy import VQAAccuracy

__all__ = [
    "ANLS",
    "AnswerMetric",
    "CharacterErrorRate",
    "ExactMatch",
    "Interval",
    "RelaxedAccuracy",
    "VQAAccuracy",
    "answer_metrics",
    "bootstrap_interval",
    "bootstrap_interval_by_group",
    "check_metrics",
    "metric_by_name",
    "paired_difference",
    "paired_difference_by_group",
    "paired_ratio",
    "paired_ratio_by_group",
]


def answer_metrics() -> dict[str, type[AnswerMetric]]:
    """Return every metric by its short name, its class name in snake case; those of plugins too."""
    found: dict[str, type[AnswerMetric]] = {}
    pending = list(AnswerMetric.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        found[_snake_case(kind.__name__)] = kind
    return dict(sorted(found.items()))


def metric_by_name(name: str) -> AnswerMetric:
    """Make the metric whose class name is `name` in snake case: `anls`, `relaxed_accuracy`, ….

    Args:
        name: Short name of a metric.

    Returns:
        A new metric without samples.

    Raises:
        UserError: No metric has that name; the message says which is nearest.
    """
    classes = answer_metrics()
    if name not in classes:
        known = ", ".join(sorted(classes))
        (nearest,) = difflib.get_close_matches(name.lower(), classes, n=1, cutoff=0.0)
        raise UserError(f"There is no metric named {name!r}; did you mean {nearest!r}? The metrics are {known}.")
    return classes[name]()


def check_metrics(metrics: Mapping[str, Sequence[str]]) -> None:
    """Check the metrics of tasks before hours of training.

    Args:
        metrics: Metric names for each task, the one that counts first.

    Raises:
        UserError: A name is unknown, or less of a task's first metric is better: means over tasks, merges and
            comparisons take more for better.
    """
    for task, names in metrics.items():
        for place, name in enumerate(names):
            if not metric_by_name(name).higher_is_better and not place:
                better = ", ".join(each for each, kind in answer_metrics().items() if kind.higher_is_better)
                raise UserError(
                    f"The first metric of task {task!r} is {name}, of which less is better; the first one counts in "
                    f"means, merges and comparisons, where more is.\nPut one of {better} before it."
                )


def _snake_case(class_name: str) -> str:
    """Turn `VQAAccuracy` into `vqa_accuracy`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()
