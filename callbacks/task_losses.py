"""The loss of each task while a model trains, and how often to draw each task next time."""

import json
import os
from collections.abc import Collection, Mapping
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fcot.batch import Batch
from fcot.errors import UserError
from fcot.runtime.run_folder import run_folder

Counts = dict[str, list[float]]  # by task: sum of losses, answer tokens, samples

LEAST, MOST = 0.5, 2.0
RULE = f"loss of the task / median loss of all tasks, at least {LEAST}, at most {MOST}, at most 1 for a generation task"


def add_counts(total: Counts, more: Counts) -> None:
    """Add counts to a total, in place."""
    for task, values in more.items():
        total[task] = [a + b for a, b in zip(total.get(task, [0.0] * len(values)), values, strict=True)]


def suggested_weights(losses: Mapping[str, float], generation_tasks: Collection[str] = ()) -> dict[str, float]:
    """Return how often to draw each task, 1 is as often as now (FCoT-VL, section 3.3, post-training sampling).

    Tasks of much lower loss than others are drawn less often, tasks of high loss more often. A generation task
    has many right answers, so its loss stays high however well it is learned: it is never drawn more often.

    Args:
        losses: Mean loss of an answer token for each task.
        generation_tasks: Tasks that are not drawn more often.
    """
    middle = median(losses.values()) if losses else 0.0
    weights = {}
    for task, loss in losses.items():
        weight = min(MOST, max(LEAST, loss / middle)) if middle > 0 else 1.0
        weights[task] = min(1.0, weight) if task in generation_tasks else weight
    return weights


class TaskLosses(Callback):
    """Logs the loss of each task and suggests how often to draw it next (FCoT-VL, section 3.3).

    Logs `train_loss/TASK`, the mean over answer tokens of a window of steps. At the end of training,
    `task_losses.json` in the run's folder holds loss, answer tokens and samples of each task over the last half of
    the steps, and the suggested weights.

    Args:
        every_n_steps: Steps in a window.
        generation_tasks: Tasks whose weight is at most 1, since their loss is high by nature (default: none).
    """

    def __init__(self, every_n_steps: int = 50, generation_tasks: list[str] | None = None) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        self.generation_tasks = generation_tasks or []
        self._pending: list[tuple[list[str], Tensor]] = []  # on the device, so that no step waits for it
        self._window: Counts = {}  # of this process
        self._windows: list[dict[str, Any]] = []  # of all processes: last step and counts of each window

    def state_dict(self) -> dict[str, Any]:
        """Return what has been counted, in plain types."""
        self._fetch()
        return {"window": dict(self._window), "windows": list(self._windows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._window, self._windows = state_dict["window"], state_dict["windows"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the window of a checkpoint to one process only, since it was saved by one."""
        if not trainer.is_global_zero:
            self._window = {}

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

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `task_losses.json`."""
        self._close(trainer)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = run_folder(trainer)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "task_losses.json").write_text(json.dumps(self.report(), indent=1) + "\n", encoding="utf-8")

    def report(self) -> dict[str, Any]:
        """Return the content of `task_losses.json`."""
        last = self._windows[-1]["step"] if self._windows else 0
        late = [window for window in self._windows if window["step"] > last / 2]
        counts: Counts = {}
        for window in late:
            add_counts(counts, window["tasks"])
        tasks = {
            task: {"loss": loss / tokens, "answer_tokens": int(tokens), "samples": int(samples)}
            for task, (loss, tokens, samples) in sorted(counts.items())
            if tokens
        }
        before = [window["step"] for window in self._windows if window not in late]
        return {
            "split": "train",
            "seed": int(os.environ.get("PL_GLOBAL_SEED", "0")),
            "steps": [max(before, default=0) + 1, last],
            "tasks": tasks,
            "weights": suggested_weights({task: row["loss"] for task, row in tasks.items()}, self.generation_tasks),
            "rule": RULE,
            "generation_tasks": self.generation_tasks,
        }

    def _fetch(self) -> None:
        """Add what waits on the device to this process's window."""
        if not self._pending:
            return
        columns = torch.cat([sums for _, sums in self._pending], dim=1).tolist()
        tasks = [task for names, _ in self._pending for task in names]
        for task, loss, tokens in zip(tasks, *columns, strict=True):
            add_counts(self._window, {task: [loss, tokens, 1.0]})
        self._pending = []

    def _close(self, trainer: Trainer) -> None:
        """End a window: add up all processes and log."""
        self._fetch()
        parts = [self._window]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [{} for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(parts, self._window)
        counts: Counts = {}
        for part in parts:
            add_counts(counts, part)
        self._window = {}
        if not counts:
            return
        self._windows.append({"step": trainer.global_step, "tasks": counts})
        means = {f"train_loss/{task}": loss / tokens for task, (loss, tokens, _) in counts.items() if tokens}
        for logger in trainer.loggers:  # not by `log`, which repeats a value until there is a new one
            logger.log_metrics(means, step=trainer.global_step)
