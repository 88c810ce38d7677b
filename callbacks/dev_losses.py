"""Losses of dev pages for a student in training and for its teacher, and what they did in a run."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from fcot.batch import Batch, PageLayout
from fcot.errors import UserError
from fcot.models.sharding import is_sharded, reshard, unshard
from fcot.models.student_teacher import StudentTeacher
from fcot.runtime.processes import of_all
from fcot.training.base_task import BaseTask
from fcot.training.conclusion_losses import Losses, conclusion_losses
from fcot.training.sft import SFT

CERTAIN = 2.0  # standard errors by which a loss must rise to be said to


class DevLosses:
    """Measures the losses of dev pages: the mean over each conclusion's or answer's tokens, by task and key.

    Args:
        module: The task whose student trains.
        data: Gives the dev pages.
        teacher: Folder of the teacher (default: the module's own).
        samples: Dev pages to use (default: all).
        whole: Measure all tokens of an answer, rather than those of its conclusion.
    """

    def __init__(
        self, module: BaseTask, data: LightningDataModule, *, teacher: Path | None, samples: int | None, whole: bool
    ) -> None:
        self.module, self.data, self.samples, self.whole = module, data, samples, whole
        # made at once, so that a folder without a model is refused before training
        self.reader: SFT | None = None
        if teacher is not None:
            self.reader = SFT(teacher, max_length=module.max_length, max_tiles=module.max_tiles)

    def student(self) -> Losses:
        """Return the student's losses; all processes must call this and `teacher`."""
        with self.module.evaluating(), gathered(self.module):
            return self._losses(self.module)

    def teacher(self) -> Losses:
        """Return the teacher's losses of the same pages; a teacher in a folder is in memory only meanwhile."""
        module, reader = self.module, self.reader
        if reader is None:
            with module.evaluating():
                return self._losses(module, "teacher")
        reader.pair = StudentTeacher(reader.folder.path, dtype="auto").requires_grad_(False)
        reader.to(module.device)
        try:
            with module.evaluating(), reader.evaluating():
                return self._losses(reader)
        finally:
            del reader.pair

    def _losses(self, reader: BaseTask, branch: str = "student") -> Losses:
        return together(conclusion_losses(reader, self._pages(reader.layout), branch, whole=self.whole))

    def _pages(self, layout: PageLayout) -> Iterator[Batch]:
        """Yield this process's batches; the counts of samples that the run reports stay those of its own passes."""
        ledgers: dict[str, Any] = self.data.ledgers  # type: ignore[attr-defined]
        before = dict(ledgers)
        loader: Iterable[Batch] = self.data.loader("dev", layout=layout, limit=self.samples)  # type: ignore[attr-defined]
        ledgers.clear()
        ledgers.update(before)
        yield from loader


@contextmanager
def gathered(module: BaseTask) -> Iterator[None]:
    """Have a module's weights whole in here, if they are shared out among processes."""
    shared = is_sharded(module.pair)
    if shared:
        unshard(module.pair)
    try:
        yield
    finally:
        if shared:
            reshard(module.pair)


def together(own: Losses) -> Losses:
    """Return the losses of all processes on each of them, samples in the order of their keys."""
    found: Losses = {}
    for part in of_all(own):
        for task, losses in part.items():
            found.setdefault(task, {}).update(losses)
    return {task: dict(sorted(found[task].items())) for task in sorted(found)}


def check_measurable(module: Any, data: Any, teacher: Path | None) -> None:
    """Refuse a run in which dev losses of student and teacher could not be measured.

    Raises:
        UserError: If module or data are not fcot's, or a teacher is missing.
    """
    if not isinstance(module, BaseTask) or not hasattr(data, "task_reads"):
        raise UserError(
            f"TaskLosses.rule excess measures dev pages of shards.Shards with fcot's tasks, not of "
            f"{type(data).__name__} with {type(module).__name__}.\nUse these, or TaskLosses.rule loss."
        )
    if teacher is None and not module.has_teacher:
        raise UserError(
            f"TaskLosses.rule excess compares with a teacher, and {type(module).__name__} has none.\n"
            "Name its folder: TaskLosses.teacher, such as checkpoints/InternVL2-2B."
        )


def mean_losses(losses: Losses) -> dict[str, float]:
    """Return the mean over samples for each task."""
    return {task: fmean(each.values()) for task, each in losses.items()}


def paired(student: Losses, teacher: Losses) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the losses of the samples that both could read, by task, in the same order."""
    shared = {task: [key for key in each if key in teacher.get(task, {})] for task, each in student.items()}
    tasks = [task for task, keys in shared.items() if keys]
    return (
        {task: [student[task][key] for key in shared[task]] for task in tasks},
        {task: [teacher[task][key] for key in shared[task]] for task in tasks},
    )


def rises(lowest: Losses, now: Losses, reads: Mapping[str, float]) -> dict[str, float]:
    """Return by how much the loss of each task that is read more often has risen, where that is certain.

    A task that is read more often and rises on dev pages is being learned by heart.

    Args:
        lowest: The losses when their mean was lowest.
        now: The losses now.
        reads: How often an epoch reads a sample of each task.
    """
    found = {}
    for task, before in lowest.items():
        keys = [key for key in before if key in now.get(task, {})]
        change = np.array([now[task][key] - before[key] for key in keys])
        if reads.get(task, 1.0) > 1 and len(change) > 1:
            error = change.std(ddof=1) / np.sqrt(len(change))
            if change.mean() > CERTAIN * error:
                found[task] = float(change.mean())
    return found


def lower(lowest: Losses, now: Losses) -> Losses:
    """Return, for each task, whichever losses have the lower mean."""
    means, others = mean_losses(lowest), mean_losses(now)
    return {task: now[task] if means.get(task, others[task]) >= others[task] else lowest[task] for task in now}
