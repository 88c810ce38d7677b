"""Metrics of generated answers, equal to the official evaluation scripts, and their uncertainty."""

import difflib
import re

from fcot.metrics import answer_metric
from fcot.metrics.anls import ANLS
from fcot.metrics.character_error_rate import CharacterErrorRate
from fcot.metrics.exact_match import ExactMatch
from fcot.metrics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_interval_by_group,
    paired_difference,
    paired_ratio,
    paired_ratio_by_group,
)
from fcot.metrics.relaxed_accuracy import RelaxedAccuracy
from fcot.metrics.vqa_accuracy import VQAAccuracy

__all__ = [
    "ANLS",
    "CharacterErrorRate",
    "ExactMatch",
    "Interval",
    "RelaxedAccuracy",
    "VQAAccuracy",
    "bootstrap_interval",
    "bootstrap_interval_by_group",
    "metric_by_name",
    "paired_difference",
    "paired_ratio",
    "paired_ratio_by_group",
]


def metric_by_name(name: str) -> answer_metric.AnswerMetric:
    """Make the exported metric whose class name is `name` in snake case: `anls`, `relaxed_accuracy`, ….

    Args:
        name: Short name of a metric.

    Returns:
        A new metric without samples.

    Raises:
        ValueError: No exported metric has that name; the message says which is nearest.
    """
    exported = (globals()[export] for export in __all__)
    classes = {
        _snake_case(member.__name__): member
        for member in exported
        if isinstance(member, type) and issubclass(member, answer_metric.AnswerMetric)
    }
    if name not in classes:
        known = ", ".join(sorted(classes))
        (nearest,) = difflib.get_close_matches(name.lower(), classes, n=1, cutoff=0.0)
        raise ValueError(f"There is no metric named {name!r}; did you mean {nearest!r}? The metrics are {known}.")
    return classes[name]()


def _snake_case(class_name: str) -> str:
    """Turn `VQAAccuracy` into `vqa_accuracy`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()
