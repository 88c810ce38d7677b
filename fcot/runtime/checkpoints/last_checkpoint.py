"""The checkpoints that a run is resumed from."""

import re
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fcot.runtime.checkpoints.exact_resume import ExactResume
from fcot.runtime.checkpoints.folder import SUFFIX, by_age, newest_valid, put_back
from fcot.runtime.run_folder import CHECKPOINTS, run_folder

KEPT = 2  # the newest, and one to fall back to
OWN = re.compile(rf"step-\d{{6,}}{re.escape(SUFFIX)}")  # a ModelCheckpoint of the user's may write to the same folder


class LastCheckpoint(ModelCheckpoint):
    """Keeps the two newest checkpoints, such as `step-000500.ckpt`; `--ckpt_path last` takes the newest valid one.

    Checkpoints that another callback writes to the same folder are left alone. A run resumes from one of them if it is
    newer and complete.

    A step is saved once it is over with all that belongs to it, validation and the end of an epoch included: before
    the next batch. The last step of all is saved at once, one that a run is ended at early by `LastStep`: before
    `on_train_end`, where callbacks may change weights.

    Args:
        folder: Where to keep them.
        every_n_steps: Optimizer steps between two writes; the last step of a run is always written.
    """

    def __init__(self, folder: Path, every_n_steps: int) -> None:
        super().__init__(folder, save_last=True, save_top_k=0, every_n_train_steps=every_n_steps)

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Clear away what a killed run left half written; the step a run starts from is not saved again."""
        self._last_global_step_saved = trainer.global_step
        if trainer.is_global_zero:
            folder = Path(str(self.dirpath))
            put_back(folder)
            for pattern in (f"*{SUFFIX}.tmp-*", f"*{SUFFIX}.previous"):
                for stale in folder.glob(pattern):
                    shutil.rmtree(stale, ignore_errors=True)
            earlier = [] if trainer.ckpt_path else [found for found in by_age(folder) if OWN.fullmatch(found.name)]
            if earlier:
                print(
                    f"{folder} has {earlier[0].name} of an earlier run. This one begins anew and replaces it;\n"
                    "stop and give --ckpt_path last to go on with it, or keep it by another --trainer.default_root_dir."
                )

    def write_if_due(self, trainer: LightningTrainer) -> None:
        """Write the step that is over, if it is one of every n."""
        if trainer.global_step % self._every_n_train_steps == 0:
            self.write_unless_written(trainer)

    def write_unless_written(self, trainer: LightningTrainer) -> None:
        """Write the step that is over."""
        if not self._should_skip_saving_checkpoint(trainer):
            self.write(trainer)

    def write(self, trainer: LightningTrainer) -> Path:
        """Write a checkpoint now and remove older ones; all processes together."""
        path = Path(str(self.dirpath)) / f"step-{trainer.global_step:06d}{SUFFIX}"
        self.last_model_path = str(path)
        self._save_checkpoint(trainer, str(path))
        if trainer.is_global_zero:
            for old in [found for found in by_age(path.parent) if OWN.fullmatch(found.name)][KEPT:]:
                trainer.strategy.remove_checkpoint(old)
        return path

    def _save_last_checkpoint(self, trainer: LightningTrainer, monitor_candidates: Any) -> None:
        self.write(trainer)

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write the step before, if it is due."""
        self.write_if_due(trainer)

    def on_train_batch_end(self, trainer: LightningTrainer, pl_module: LightningModule, *args: Any) -> None:
        """Write the last step, which has no next batch."""
        if trainer.global_step == trainer.max_steps:
            self.write_unless_written(trainer)

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write nothing: checkpoints follow steps."""

    def on_train_epoch_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write nothing: checkpoints follow steps."""

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write nothing: see the class."""

    def _find_last_checkpoints(self, trainer: LightningTrainer) -> set[str]:
        """Return the one that `ckpt_path="last"` means."""
        newest = newest_of_run(trainer)
        return set() if newest is None else {str(newest)}


def keepers_of(trainer: LightningTrainer) -> list[ModelCheckpoint]:
    """Return the callbacks that keep checkpoints."""
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]


def folders_of_run(trainer: LightningTrainer) -> list[Path]:
    """Return the folders that checkpoints of a run may be in: its own, and those of every `ModelCheckpoint`."""
    others = [Path(keeper.dirpath).resolve() for keeper in keepers_of(trainer) if keeper.dirpath]
    return list(dict.fromkeys([(run_folder(trainer) / CHECKPOINTS).resolve(), *others]))


def newest_of_run(trainer: LightningTrainer) -> Path | None:
    """Return the newest checkpoint of a run that is whole and has all it takes to go on, None if there is none at all.

    Raises:
        DamagedCheckpoint: If there are damaged ones and no other.
    """
    return newest_valid(*folders_of_run(trainer), tell=trainer.print, resumable=has_position)


def has_position(state: dict[str, Any]) -> bool:
    """Return whether the plain state of a checkpoint says where in the data its run was."""
    return ExactResume.__qualname__ in state.get("callbacks", {})
