"""Scores of generated answers, by sample, by task and averaged, with confidence intervals."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcot.metrics import METRICS, Interval, bootstrap_interval, bootstrap_interval_by_group

ANSWER = "Answer:"  # a chain of thought ends with this, followed by its conclusion


def conclusion(text: str) -> str:
    """Return what follows the last "Answer:" of a chain of thought, or the whole text if there is none."""
    return text.rpartition(ANSWER)[2].strip() if ANSWER in text else text


def is_page_text(reference: str) -> bool:
    """Return whether "Answer:" belongs to a page's text: a chain of thought has it once, on its last line."""
    return ANSWER in reference and (reference.count(ANSWER) > 1 or "\n" in conclusion(reference))


def judged(said: str, accepted: Sequence[str]) -> tuple[str, list[str]]:
    """Return the parts of an answer and of its references to compare: conclusions, or a page's whole text."""
    if any(map(is_page_text, accepted)):
        return said, list(accepted)
    return conclusion(said), [conclusion(text) for text in accepted]


@dataclass(frozen=True)
class Record:
    """One generated answer and its scores.

    Attributes:
        key: Sample key.
        task: Task name.
        question: The question.
        references: Accepted answers.
        prediction: The model's answer.
        scores: Score by metric name; the mean if there are several answers.
        visual_tokens: Visual tokens of the page.
        more_predictions: Further answers drawn to the same question.
        left: Visual tokens after a reducer: "kept" at the last layer, "equivalent" averaged over layers.
        id: What the sample calls itself, None without a name.
    """

    key: str
    task: str
    question: str
    references: list[str]
    prediction: str
    scores: dict[str, float]
    visual_tokens: int
    more_predictions: list[str] = field(default_factory=list)
    left: dict[str, float] | None = None
    id: str | int | None = None

    def json(self) -> dict[str, Any]:
        """Return the record as JSON, without `more_predictions`, `left` and `id` if there are none."""
        empty: dict[str, Any] = {"more_predictions": [], "left": None, "id": None}
        return {name: value for name, value in asdict(self).items() if name not in empty or value != empty[name]}


@dataclass
class Evaluation:
    """Collects the scores of one model on one split.

    The first metric of a task is the one that counts in means; a chain of thought is scored by its conclusion.

    Args:
        metrics: Metric names for each task; "*" for tasks not named (default: ANLS for all).
        records: The answers scored so far.
    """

    metrics: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"*": ("anls",)})
    records: list[Record] = field(default_factory=list)

    def names(self, task: str) -> Sequence[str]:
        """Return the metrics of a task; the first is the one that counts."""
        return self.metrics.get(task) or self.metrics.get("*") or ("anls",)

    def add(
        self,
        *,
        keys: Sequence[str],
        tasks: Sequence[str],
        questions: Sequence[str],
        references: Sequence[list[str]],
        predictions: Sequence[str],
        visual_tokens: Sequence[int],
        more_predictions: Sequence[list[str]] | None = None,
        left: Sequence[dict[str, float]] | None = None,
        ids: Sequence[str | int | None] | None = None,
    ) -> list[Record]:
        """Score all answers of a batch, further ones included, and return one record for each question."""
        added = []
        further = more_predictions or [[]] * len(keys)
        its_left: Sequence[dict[str, float] | None] = left or [None] * len(keys)
        its_ids = ids or [None] * len(keys)
        for key, task, question, accepted, said, tokens, more, remaining, own in zip(
            keys, tasks, questions, references, predictions, visual_tokens, further, its_left, its_ids, strict=True
        ):
            compared = [judged(each, accepted) for each in (said, *more)]
            scores = {
                name: float(np.mean([METRICS[name]().score(*each) for each in compared])) for name in self.names(task)
            }
            added.append(Record(key, task, question, accepted, said, scores, tokens, more, remaining, own))
        self.records.extend(added)
        return added

    def by_task(self, metric: str | None = None) -> dict[str, list[float]]:
        """Return each task's scores in key order, by its first metric or by a named one."""
        grouped: dict[str, list[float]] = {}
        for record in sorted(self.records, key=lambda record: record.key):
            name = metric or self.names(record.task)[0]
            if name in record.scores:
                grouped.setdefault(record.task, []).append(record.scores[name])
        return dict(sorted(grouped.items()))

    def mean(self) -> float:
        """Return the mean over tasks of each task's mean score."""
        return float(np.mean([np.mean(scores) for scores in self.by_task().values()]))

    def summary(self, *, seed: int = 0) -> dict[str, Any]:
        """Return scores with 95 % bootstrap intervals, and the mean number of visual tokens of a page.

        Returns:
            `scores`: for each task and for "mean", `metric`, `mean`, `low`, `high`, `n`; `further_scores`: the same
            for each task's further metrics, by their names; `visual_tokens`: the mean over pages.
        """
        groups = self.by_task()
        scores = {
            task: {"metric": self.names(task)[0], **asdict(bootstrap_interval(values, seed=seed))}
            for task, values in groups.items()
        }
        scores["mean"] = {
            "metric": "mean over tasks",
            **asdict(bootstrap_interval_by_group(groups, seed=seed)),
        }
        return {
            "n": len(self.records),
            "scores": scores,
            "further_scores": {task: self.further(task, seed=seed) for task in groups if len(self.names(task)) > 1},
            "visual_tokens": float(np.mean([record.visual_tokens for record in self.records])),
        }

    def further(self, task: str, *, seed: int = 0) -> dict[str, Any]:
        """Return the interval over all samples of each metric of a task but the first.

        If there are several answers to a question, only the first is used.
        """
        records = sorted((record for record in self.records if record.task == task), key=lambda record: record.key)
        said, accepted = zip(*(judged(record.prediction, record.references) for record in records), strict=True)
        found = {}
        for name in self.names(task)[1:]:
            metric = METRICS[name]()
            metric.update(said, accepted)
            found[name] = asdict(metric.interval(seed=seed))
        return found

    def gather(self) -> None:
        """Gather the records of all processes on each of them."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[list[Record]] = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(gathered, self.records)
            self.records = [record for records in gathered for record in records]

    def write_records(self, path: Path) -> None:
        """Write one JSON line per record."""
        lines = (json.dumps(record.json(), ensure_ascii=False) + "\n" for record in self.records)
        path.write_text("".join(lines), encoding="utf-8")


def read_records(path: Path) -> list[Record]:
    """Read a file of `write_records`.

    `seconds`, which earlier versions wrote, are ignored: times of separate processes cannot be compared.
    """
    with path.open(encoding="utf-8") as file:
        fields = [json.loads(line) for line in file]
    return [Record(**{name: value for name, value in record.items() if name != "seconds"}) for record in fields]


def as_text(interval: Mapping[str, Any] | Interval) -> str:
    """Return "0.912 [0.880, 0.941]" for an interval."""
    values = asdict(interval) if isinstance(interval, Interval) else interval
    return f"{values['mean']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def tested(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return "split test, n = 400, seed 0" for rows of a table."""
    rows = list(rows)
    splits, counts, seeds = ({str(row[name]): None for row in rows} for name in ("split", "n", "seed"))
    return f"split {', '.join(splits)}, n = {' or '.join(counts)}, seed {', '.join(seeds)}"


def print_table(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows with model, ratio, stage, split, n, seed, scores and visual_tokens.

    If rows have `vs_teacher`, a column shows the score as a percentage of the teacher's.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = list(rows)
    tasks = list(dict.fromkeys(task for row in rows for task in row["scores"] if task != "mean"))
    related = any("vs_teacher" in row for row in rows)
    title, metrics = f"{tested(rows)}, 95 % intervals", named_metrics(rows, tasks)
    table = Table(
        title=escape(title), caption=escape(metrics), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    table.add_column("stage\n[dim]model[/dim]", overflow="fold", min_width=12)
    for title in ("ratio", "mean", *(["% of\nteacher"] if related else [])):
        table.add_column(title, justify="right", no_wrap=True)
    for title in (*map(escape, tasks), "visual\ntokens"):
        table.add_column(title, justify="right", overflow="fold", min_width=5)
    for row in rows:
        scores, shared = row["scores"], row.get("vs_teacher")
        table.add_row(
            f"{escape(row['stage'])}\n[dim]{escape(row['model'])}[/dim]",
            str(row["ratio"]),
            stacked(scores["mean"]),
            *([stacked(shared, scale=100, decimals=1) if shared else ""] if related else []),
            *(f"{scores[task]['mean']:.3f}" if task in scores else "" for task in tasks),
            f"{row['visual_tokens']:.1f}",
        )
    screen = Console()
    (screen if screen.is_terminal else Console(width=120)).print(table)


def print_further(row: Mapping[str, Any]) -> None:
    """Print a row's further metrics: a line for each task, a column for each metric."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    further: Mapping[str, Mapping[str, Any]] = row["further_scores"]
    names = list(dict.fromkeys(name for scores in further.values() for name in scores))
    if not names:
        return
    table = Table(title="further metrics, which are not in the mean", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("task", overflow="fold")
    for name in names:
        table.add_column(escape(name.replace("_", " ")), justify="right")
    for task, scores in further.items():
        table.add_row(escape(task), *(as_text(scores[name]) if name in scores else "" for name in names))
    Console().print(table)


def stacked(interval: Mapping[str, Any], *, scale: float = 1.0, decimals: int = 3) -> str:
    """Return a score and, on a second line, its interval; None as an end means unbounded."""
    low, high = ("∞" if interval[end] is None else f"{scale * interval[end]:.{decimals}f}" for end in ("low", "high"))
    return f"{scale * interval['mean']:.{decimals}f}\n[dim]{low}\N{EN DASH}{high}[/dim]"


def named_metrics(rows: Iterable[Mapping[str, Any]], tasks: Iterable[str]) -> str:
    """Return the metric of each task, as "anls: table, text; exact match: form"."""
    metrics = {task: row["scores"][task]["metric"] for row in rows for task in row["scores"]}
    by_metric: dict[str, list[str]] = {}
    for task in tasks:
        by_metric.setdefault(metrics[task].replace("_", " "), []).append(task)
    return "; ".join(f"{metric}: {', '.join(named)}" for metric, named in by_metric.items())
