"""The loss of each task while a model trains, and how often to draw each task next time."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.dev_losses import DevLosses, check_measurable
from callbacks.task_excess import TaskExcess
from fcot.batch import Batch
from fcot.errors import UserError, nearest
from fcot.runtime.processes import of_all
from fcot.runtime.run_folder import run_folder
from shards.feed.task_weights import RULES, loss_weights

Counts = dict[str, list[float]]  # by task: sum of losses, answer tokens, samples, sum of samples' mean losses
DEV_TOKENS = ("conclusion", "answer")


def add_counts(total: Counts, more: Counts) -> None:
    """Add counts to a total, in place."""
    for task, values in more.items():
        total[task] = [a + b for a, b in zip(total.get(task, [0.0] * len(values)), values, strict=True)]


class TaskLosses(Callback):
    """Logs the loss of each task and suggests how often to draw it next (FCoT-VL, section 3.3).

    Logs `train_loss/TASK`, the mean over answer tokens of a window of steps. At the end of training,
    `task_losses.json` in the run's folder holds loss, answer tokens and samples of each task over the last half of
    the steps, and the suggested weights, which `--data.weights` of the next run takes.

    Rule `loss` is the paper's: weights follow the training loss. Rule `excess` also measures dev pages, before and
    after training and at each validation: weights follow how far the student's loss is above the teacher's. It prints
    a table, and warns of tasks whose dev loss rises while they are read more often. It measures the weights that it
    finds at the end: name it before ShapleyMerge, which may change them.

    Args:
        every_n_steps: Steps in a window.
        generation_tasks: Tasks whose weight is at most 1, since their loss is high by nature (default: none).
        rule: How weights follow from losses: loss or excess.
        teacher: For excess, the folder of the teacher (default: the run's own, in re-alignment).
        dev_samples: For excess, dev pages to measure (default: all).
        dev_tokens: For excess, whose loss is measured: answer, all of its tokens, or conclusion, what follows "Answer:"
            in a chain of thought. Behind the right chain a conclusion is easily copied, however badly a task is solved.
    """

    def __init__(
        self,
        every_n_steps: int = 50,
        generation_tasks: list[str] | None = None,
        rule: str = "loss",
        teacher: Path | None = None,
        dev_samples: int | None = None,
        dev_tokens: str = "answer",
    ) -> None:
        super().__init__()
        if dev_tokens not in DEV_TOKENS:
            raise UserError(f"TaskLosses.dev_tokens is {dev_tokens!r}.\nUse one of {', '.join(DEV_TOKENS)}.")
        if rule not in RULES:
            raise UserError(f"TaskLosses.rule is {rule!r}.{nearest(rule, RULES)}\nUse one of {', '.join(RULES)}.")
        self.every_n_steps = every_n_steps
        self.generation_tasks = generation_tasks or []
        self.rule, self.teacher, self.dev_samples = rule, teacher, dev_samples
        self.whole_answers = dev_tokens == "answer"
        self.excess = TaskExcess()
        self._pending: list[tuple[list[str], Tensor]] = []  # on the device, so that no step waits for it
        self._window: Counts = {}  # of this process
        self._windows: list[dict[str, Any]] = []  # of all processes: last step and counts of each window

    def state_dict(self) -> dict[str, Any]:
        """Return what has been counted and measured, in plain types."""
        self._fetch()
        return {"window": dict(self._window), "windows": list(self._windows), "excess": self.excess.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._window, self._windows = state_dict["window"], state_dict["windows"]
        for counts in (self._window, *(window["tasks"] for window in self._windows)):
            for values in counts.values():  # a checkpoint of 0.1 has no sum of samples' means
                values += [values[0] / values[1] * values[2] if values[1] else 0.0] if len(values) == 3 else []
        self.excess.load_state_dict(state_dict.get("excess", {}))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to train towards weights that could not be computed.

        Raises:
            UserError: If rule excess has no dev pages, or no teacher to compare with.
        """
        if self.rule == "excess":
            check_measurable(pl_module, getattr(trainer, "datamodule", None), self.teacher)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the window of a checkpoint to one process only, since it was saved by one; measure dev pages."""
        if not trainer.is_global_zero:
            self._window = {}
        if self.rule == "excess" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            data = trainer.datamodule  # type: ignore[attr-defined]
            options = {"teacher": self.teacher, "samples": self.dev_samples, "whole": self.whole_answers}
            self.excess.start(DevLosses(pl_module, data, **options))  # type: ignore[arg-type]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch; log at the end of a window."""
        if not isinstance(outputs, Mapping) or "ce_rows" not in outputs or "row_samples" not in outputs:
            raise UserError(
                f"{type(pl_module).__name__}.training_step returns no 'ce_rows' and 'row_samples' for TaskLosses.\n"
                "Return them as fcot.Realign and fcot.SFT do, or leave the callback out."
            )
        losses = outputs["ce_rows"].float()
        sums = losses.new_zeros(2, len(batch))
        sums.index_add_(1, outputs["row_samples"], torch.stack([losses, torch.ones_like(losses)]))
        self._pending.append((batch.tasks, sums))
        step = trainer.global_step
        closed = self._windows[-1]["step"] if self._windows else 0
        if step % self.every_n_steps == 0 and step > closed:  # batches that accumulate gradients share a step
            self._close(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure dev pages in the middle of training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.excess.measure(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `task_losses.json`; print what rule excess found."""
        self._close(trainer)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        data: Any = getattr(trainer, "datamodule", None)
        report = self.report(data.task_sizes() if hasattr(data, "task_sizes") else None)
        if self.rule == "excess":
            reads = data.task_reads() if hasattr(data, "task_reads") else {}
            report |= self.excess.report(trainer.global_step, report, reads, self.generation_tasks)
            trainer.print(self.excess.table(report))
        if trainer.is_global_zero:
            folder = run_folder(trainer)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "task_losses.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def report(self, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Return the content of `task_losses.json` by rule loss.

        Args:
            sizes: Training samples of each task (default: in proportion to those counted).
        """
        last = self._windows[-1]["step"] if self._windows else 0
        late = [window for window in self._windows if window["step"] > last / 2]
        counts, read = self._total(late), self._total(self._windows)
        tasks = {
            task: {
                "loss": loss / tokens,
                "sample_loss": means / samples,
                "answer_tokens": int(tokens),
                "samples": int(samples),
            }
            for task, (loss, tokens, samples, means) in sorted(counts.items())
            if tokens
        }
        sizes = sizes or {task: int(row["samples"]) for task, row in tasks.items()}
        before = [window["step"] for window in self._windows if window not in late]
        losses = {task: row["sample_loss"] for task, row in tasks.items()}
        return {
            "split": "train",
            "seed": int(os.environ.get("PL_GLOBAL_SEED", "0")),
            "steps": [max(before, default=0) + 1, last],
            "tasks": tasks,
            "sizes": dict(sizes),
            "read": {task: int(values[2]) for task, values in sorted(read.items())},
            "answer_tokens": int(sum(values[1] for values in read.values())),
            "weights": loss_weights(losses, sizes, self.generation_tasks),
            "rule": "loss",
            "formula": RULES["loss"],
            "generation_tasks": self.generation_tasks,
        }

    @staticmethod
    def _total(windows: list[dict[str, Any]]) -> Counts:
        counts: Counts = {}
        for window in windows:
            add_counts(counts, window["tasks"])
        return counts

    def _fetch(self) -> None:
        """Add what waits on the device to this process's window."""
        if not self._pending:
            return
        columns = torch.cat([sums for _, sums in self._pending], dim=1).tolist()
        tasks = [task for names, _ in self._pending for task in names]
        for task, loss, tokens in zip(tasks, *columns, strict=True):
            add_counts(self._window, {task: [loss, tokens, 1.0, loss / tokens if tokens else 0.0]})
        self._pending = []

    def _close(self, trainer: Trainer) -> None:
        """End a window: add up all processes and log."""
        self._fetch()
        counts: Counts = {}
        for part in of_all(self._window):
            add_counts(counts, part)
        self._window = {}
        if not counts:
            return
        self._windows.append({"step": trainer.global_step, "tasks": counts})
        means = {f"train_loss/{task}": values[0] / values[1] for task, values in counts.items() if values[1]}
        for logger in trainer.loggers:  # not by `log`, which repeats a value until there is a new one
            logger.log_metrics(means, step=trainer.global_step)
