"""Keep evenly spaced snapshots of the student for merging."""

import shutil
from pathlib import Path
from typing import Any, TypeGuard

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fcot.errors import UserError
from fcot.models.branches import named
from fcot.runtime.run_folder import run_folder
from fcot.training.base_task import BaseTask
from fcot.training.saving import save_students

BASE, STEP = "base", "step-"


class Snapshots(ModelCheckpoint):
    """Saves the student's weights at evenly spaced steps, and once before the first (FCoT-VL, section 3.3).

    Each snapshot is a model folder that `from_pretrained` loads: `base`, then `step-000100`, `step-000200`, …,
    the last at the end of training. Students at further ratios have folders beside it, such as `snapshots-r4`.

    Args:
        count: How many, the start not counted.
        after: Share of the steps after which they are spaced evenly: 0.5 takes them from the second half, where a
            constant learning rate (`lr_schedule: constant`) makes them worth averaging.
        dirpath: Where to write (default: `snapshots` in the run folder).
    """

    def __init__(self, count: int = 5, dirpath: Path | None = None, after: float = 0.0) -> None:
        super().__init__(dirpath=dirpath, save_top_k=-1, every_n_epochs=0)  # none of ModelCheckpoint's own moments
        if count < 1:
            raise UserError(f"Snapshots.count is {count}. Keep at least one; the paper keeps 5.")
        if not 0.0 <= after < 1.0:
            raise UserError(f"Snapshots.after is {after}, a share of the steps. Give a number from 0 to below 1.")
        self.count, self.after = count, after
        self.max_steps: int | None = None  # of the run; None counts every snapshot there is
        self._taken = 0  # the last step whose snapshot there is

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle the folder."""
        if self.dirpath is None:
            self.dirpath = str(run_folder(trainer) / "snapshots")
        self.max_steps = trainer.max_steps

    def due(self, max_steps: int) -> list[int]:
        """Return the steps after which a snapshot is taken."""
        parts = (self.count * self.after + (1 - self.after) * (i + 1) for i in range(self.count))
        return sorted({max(1, round(max_steps * part / self.count)) for part in parts})

    def folders(self) -> dict[str, Path]:
        """Return the snapshots on disk by name, in training order.

        Snapshots that are not due in this run do not count: it may resume a run of another length or count.
        """
        steps = {folder.name.removeprefix(STEP): folder for folder in Path(self.dirpath or ".").glob(f"{STEP}*")}
        whole = sorted((int(step), folder) for step, folder in steps.items() if step.isdecimal())
        due = None if self.max_steps is None else self.due(self.max_steps)
        return {folder.name: folder for step, folder in whole if due is None or step in due}

    @property
    def base(self) -> Path:
        """The snapshot of the start."""
        return Path(self.dirpath or ".") / BASE

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the start in place of an earlier run's snapshots, unless this run is resumed."""
        self._taken = trainer.global_step
        if trainer.global_step == 0 and self._writes(pl_module, trainer):
            for home in self._homes(pl_module).values() if trainer.is_global_zero else ():
                for old in (home / BASE, *home.glob(f"{STEP}*")):
                    shutil.rmtree(old, ignore_errors=True)
            self._write(pl_module, BASE)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when a step is due; with gradient accumulation, once."""
        step = trainer.global_step
        # all processes must agree, so what is on disk does not count
        if step in self.due(trainer.max_steps) and step != self._taken and self._writes(pl_module, trainer):
            self._write(pl_module, f"{STEP}{step:06d}")
            self._taken = step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save nothing: snapshots follow steps."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save nothing: snapshots follow steps."""

    def base_of(self, choice: str) -> Path:
        """Return the folder of θ_base: the start ("init"), the last snapshot ("final") or a model folder."""
        return {"init": self.base, "final": [self.base, *self.folders().values()][-1]}.get(choice, Path(choice))

    @classmethod
    def of(cls, trainer: Trainer) -> "Snapshots | None":
        """Return the callback of a trainer that keeps snapshots, if there is one."""
        return next((each for each in trainer.checkpoint_callbacks if isinstance(each, cls)), None)

    @staticmethod
    def _writes(module: LightningModule, trainer: Trainer) -> TypeGuard[BaseTask]:
        return not trainer.fast_dev_run and isinstance(module, BaseTask)  # type: ignore[attr-defined]

    def _homes(self, module: BaseTask) -> dict[str, Path]:
        """Return the folder of each student's snapshots, by its branch of a batch."""
        home = Path(self.dirpath or ".")
        return {branch: home.with_name(named(home.name, branch)) for branch in module.saved_branches}

    def _write(self, module: BaseTask, name: str) -> None:
        save_students(module, {branch: home / name for branch, home in self._homes(module).items()})
