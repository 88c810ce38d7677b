"""The rows of a report: each model's scores, and in pairs against the teacher, its start and the control."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from fcot.errors import UserError
from fcot.evaluation.records import tested
from fcot.metrics import Interval, paired_difference_by_group, paired_ratio_by_group
from fcot.report.runs import FIELDS, TestedModel, metrics_of


def compared_rows(scored: Sequence[TestedModel]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each model, and what could not be compared.

    A row has the fields of its `test.json`, `name` and `label`, and where there is something to compare with:
    `vs_teacher` and `vs_control`, ratios of the mean scores, and `vs_start`, the difference to the start of the
    same ratio, each with `mean`, `low`, `high`, `n`. An end that is infinite is None.

    Raises:
        UserError: If two models were not tested on the same pages by the same metrics.
    """
    teacher, control = with_role(scored, "teacher"), with_role(scored, "teacher-sft")
    rows, missing = [], []
    for model in scored:
        row = {"name": model.name, "label": model.label, **{field: model.row[field] for field in FIELDS}}
        start = with_role(scored, "start", model.ratio)
        if teacher and model is not teacher:
            row["vs_teacher"] = plain(ratio_to(model, teacher))
        if control and model.ratio > 1:
            row["vs_control"] = plain(ratio_to(model, control))
        if start and model is not start:
            row["vs_start"] = plain(difference_to(model, start))
        rows.append({name: value for name, value in row.items() if value is not None})
        if not model.records:
            missing.append(f"{model.name} has no test.jsonl, so it is compared with no other model.")
    if teacher is None:
        missing.append("No teacher was tested, so no score is given as a share of the teacher's.")
    elif teacher.records and not sum(map(sum, teacher.by_task.values())):
        missing.append("The teacher's mean score is 0, so no score is given as a share of it.")
    if control is None:
        missing.append("No control was tested (the teacher with the same post-training).")
    for ratio in sorted({model.ratio for model in scored} - {1}):
        if with_role(scored, "start", ratio) is None:
            missing.append(f"The start at ratio {ratio} was not tested, so what training added is not known.")
    return rows, missing


def with_role(scored: Sequence[TestedModel], role: str, ratio: int | None = None) -> TestedModel | None:
    """Return the model of a role, at a ratio if one is given."""
    return next((model for model in scored if model.role == role and ratio in (None, model.ratio)), None)


def final(scored: Sequence[TestedModel], ratio: int) -> TestedModel | None:
    """Return the student of a ratio that went furthest: merged, else post-trained, re-aligned, started, any."""
    found = (with_role(scored, role, ratio) for role in ("merged", "sft", "realigned", "start"))
    others = (model for model in reversed(scored) if model.ratio == ratio)
    return next((model for model in found if model), None) or next(others, None)


def ratio_to(model: TestedModel, other: TestedModel) -> Interval | None:
    """Return the paired ratio of two mean scores; None without answers or if the other's mean is 0."""
    if not paired(model, other) or not sum(map(sum, other.by_task.values())):
        return None
    return paired_ratio_by_group(model.by_task, other.by_task)


def difference_to(model: TestedModel, other: TestedModel) -> Interval | None:
    """Return the paired difference of two mean scores, tasks weighing the same; None without answers."""
    if not paired(model, other):
        return None
    return paired_difference_by_group(model.by_task, other.by_task)


def paired(model: TestedModel, other: TestedModel) -> bool:
    """Return whether both have answers, which then must be to the same questions on the same pages.

    Raises:
        UserError: If they are not, or were scored by other metrics.
    """
    if not model.records or not other.records:
        return False
    pages = [{record.key: (record.task, record.references) for record in one.records} for one in (model, other)]
    if pages[0] != pages[1] or len(model.records) != len(other.records):
        keys = sorted(set(pages[0]) | set(pages[1]))
        key = next((key for key in keys if pages[0].get(key) != pages[1].get(key)), keys[0])
        raise UserError(
            f"{model.name} and {other.name} were tested on different pages, sample {key!r} for one, "
            "and can only be compared on the same.\n"
            "Test both again with the same --data.root and --data.test_samples."
        )
    metrics, others = metrics_of(model.row), metrics_of(other.row)
    for task, (metric,) in metrics.items():
        if (metric,) != others[task]:
            raise UserError(
                f"{model.name} scores {task!r} by {metric}, {other.name} by {others[task][0]}.\n"
                "Test both again with the same --model.metrics."
            )
    return True


def plain(interval: Interval | None) -> dict[str, Any] | None:
    """Return an interval as JSON can hold it."""
    if interval is None:
        return None
    return {name: value if isfinite(value) else None for name, value in asdict(interval).items()}


def tasks_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the tasks of all rows."""
    return list(dict.fromkeys(task for row in rows for task in row["scores"] if task != "mean"))


def provenance(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the line that stands at every table: split, number of pages, seed, kind of interval."""
    return f"{tested(rows).capitalize()}; 95 % bootstrap intervals, comparisons paired by page."


def share(interval: Mapping[str, Any]) -> str:
    """Return "97.2 % [95.1, 99.0]" for the interval of a ratio."""
    high = "∞" if interval["high"] is None else f"{100 * interval['high']:.1f}"
    return f"{100 * interval['mean']:.1f} % [{100 * interval['low']:.1f}, {high}]"


def signed(interval: Mapping[str, Any]) -> str:
    """Return "+0.012 [−0.003, +0.027]" for the interval of a difference."""
    mean, low, high = (f"{interval[name]:+.3f}".replace("-", "−") for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
