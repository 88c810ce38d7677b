"""Checkpoints to resume from: the last one of a run, written so that a crash cannot leave half of it."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fcot.errors import UserError


class LastCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt`, which `--ckpt_path last` resumes from.

    Args:
        folder: Where to keep it.
        every_n_steps: Optimizer steps between two writes; the last step of a run is always written.
    """

    def __init__(self, folder: Path, every_n_steps: int) -> None:
        super().__init__(
            folder, save_last=True, save_top_k=0, every_n_train_steps=every_n_steps, enable_version_counter=False
        )

    def on_train_batch_end(self, trainer: LightningTrainer, pl_module: LightningModule, *args: Any) -> None:
        """Write when due, and at the last step: on_train_end is too late, callbacks may change weights there."""
        super().on_train_batch_end(trainer, pl_module, *args)
        if trainer.global_step == trainer.max_steps and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write nothing: see `on_train_batch_end`."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes to a partial file beside the target, flushes it and renames it; reads tensors only.

    Lightning's own builds the whole file in memory, moves it from the temporary folder, and does not flush.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, whole or not at all."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint, tensors and plain values only, whatever is asked.

        Raises:
            UserError: If the file holds anything else, or is damaged.
        """
        try:
            found: dict[str, Any] = super().load_checkpoint(path, map_location=map_location, weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError) as error:
            reason = (str(error) or repr(error)).splitlines()[0][:200]
            raise UserError(
                f"{path} is no checkpoint of tensors and plain values ({reason}).\n"
                "Nothing in it was run. Give a checkpoint that fcot wrote."
            ) from error
        return found
