"""The Trainer: Lightning's, with defaults that suit reading pages."""

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy

from fcot.accelerators.npu import NPUAccelerator, npu_precision, npu_strategy
from fcot.checkpoints.exact_resume import ExactResume
from fcot.checkpoints.last_checkpoint import LastCheckpoint
from fcot.checkpoints.owed_validation import OwedValidation
from fcot.checkpoints.plugin import FolderCheckpointIO
from fcot.checkpoints.preemption import NotedSignals, Preemption
from fcot.errors import UserError
from fcot.fsdp.strategy import FSDP2Strategy


class Trainer(LightningTrainer):
    """Lightning's Trainer with a run folder, exact resuming, an orderly end on signals, and Ascend NPUs.

    Args:
        default_root_dir: Folder of the run: configuration, logs, checkpoints.
        checkpoint_every_n_steps: Optimizer steps between two checkpoints in `checkpoints/`, of which
            `--ckpt_path last` resumes from the newest valid one; 0 writes none.
        collective_timeout: Seconds after which a process that waits for the others gives up.
        enable_model_summary: Print Lightning's table of layers.
        options: Everything else is Lightning's.

    Raises:
        UserError: If an NPU is asked for and none is there.
    """

    def __init__(
        self,
        *,
        default_root_dir: Path = Path("runs/default"),
        checkpoint_every_n_steps: int = 500,
        collective_timeout: int = 1800,
        enable_model_summary: bool = False,
        **options: Any,
    ) -> None:
        root = Path(default_root_dir)
        if not options.get("barebones"):  # which measures Lightning's overhead, and refuses all of this
            keep_checkpoints(options, root / "checkpoints", checkpoint_every_n_steps)
            if options.get("logger") in (None, True):
                options["logger"] = TensorBoardLogger(root, name="", version="")
        use_npu(options)
        use_fsdp2(options)
        super().__init__(default_root_dir=root, enable_model_summary=enable_model_summary, **options)
        self._signal_connector = NotedSignals(self)
        if hasattr(self.strategy, "_timeout"):  # of the strategies with several processes
            self.strategy._timeout = timedelta(seconds=collective_timeout)

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = True,
    ) -> None:
        """Train; a SLURM job that was queued again resumes from its last checkpoint by itself.

        Args:
            model: Module to train.
            train_dataloaders: Training batches, if no data module gives them.
            val_dataloaders: Validation batches, if no data module gives them.
            datamodule: Gives all batches.
            ckpt_path: Checkpoint to resume from: a folder step-….ckpt, or "last" for the newest valid one.
            weights_only: Only such checkpoints are read, whatever is asked.
        """
        again = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        path = "last" if again and self.last_checkpoints() else ckpt_path
        super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path=path, weights_only=weights_only)

    def save_checkpoint(self, filepath: Any, weights_only: bool | None = None, storage_options: Any = None) -> None:
        """Write a checkpoint; all processes together, and if one cannot write, all end.

        Raises:
            UserError: If it cannot be written.
        """
        checkpoint = self._checkpoint_connector.dump_checkpoint(weights_only)
        error: UserError | None = None
        try:
            self.strategy.save_checkpoint(checkpoint, filepath, storage_options=storage_options)
        except UserError as found:
            error = found
        if self.strategy.reduce_boolean_decision(error is not None, all=False):
            raise error or UserError(f"Another process could not write {filepath}.\nIts own message says why.")

    def _run_stage(self) -> Any:
        """Run; a training that was killed after its last step still gets the work of its end."""
        resumed = self.state.fn == "fit" and self.ckpt_path is not None and self.fit_loop.done
        result = super()._run_stage()
        if resumed:
            self.fit_loop.on_run_start()
            self.fit_loop.on_run_end()
        return result

    def last_checkpoints(self) -> set[str]:
        """Return the files that `ckpt_path="last"` would choose from."""
        keepers = [callback for callback in self.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        return {path for keeper in keepers for path in keeper._find_last_checkpoints(self)}


def listed(value: Any) -> list[Any]:
    """Return one or many or none as a new list."""
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) else [value]


def keep_checkpoints(options: dict[str, Any], folder: Path, every_n_steps: int) -> None:
    """Have checkpoints written safely and resumed exactly, and the last ones kept unless the options say otherwise."""
    options["plugins"] = listed(options.get("plugins"))
    if not any(isinstance(plugin, CheckpointIO) for plugin in options["plugins"]):
        options["plugins"].append(FolderCheckpointIO())
    chosen = listed(options.get("callbacks"))
    # first in line: others may save or fail in the same hooks
    position = ExactResume()
    options["callbacks"] = [position, Preemption(position), *chosen, OwedValidation(position)]
    kept = any(isinstance(callback, ModelCheckpoint) and callback.save_last for callback in chosen)
    if every_n_steps > 0 and not kept and options.get("enable_checkpointing") is not False:
        options["callbacks"].append(LastCheckpoint(folder, every_n_steps))


def use_npu(options: dict[str, Any]) -> None:
    """Fill in accelerator, strategy and precision for NPUs, where they are asked for or the machine has them.

    Raises:
        UserError: If an NPU is asked for and none is there.
    """
    accelerator = options.get("accelerator", "auto")
    if accelerator not in ("auto", "npu") and not isinstance(accelerator, NPUAccelerator):
        return
    available = NPUAccelerator.is_available()
    if not available and accelerator == "auto":
        return
    if not available:
        raise UserError(
            "accelerator is 'npu', but torch_npu is not installed or sees no Ascend device.\n"
            "Install torch_npu for this version of torch, or choose --trainer.accelerator auto."
        )
    options["accelerator"] = NPUAccelerator()
    if options.get("strategy", "auto") in ("auto", "ddp"):
        options["strategy"] = npu_strategy(options.get("devices", "auto"), options.get("num_nodes") or 1)
    mixed = npu_precision(options.get("precision"))
    if mixed is not None:
        options["plugins"] = [*listed(options.get("plugins")), mixed]
        options["precision"] = None


def use_fsdp2(options: dict[str, Any]) -> None:
    """Put this project's strategy where "fsdp2" or Lightning's own for FSDP2 is asked for.

    Raises:
        UserError: If tensors are to be parallel too.
    """
    asked = options.get("strategy")
    if type(asked) is ModelParallelStrategy:
        if asked._tensor_parallel_size not in ("auto", 1):
            raise UserError(
                f"tensor_parallel_size of the strategy is {asked._tensor_parallel_size}, and only data are parallel.\n"
                "Set it to 1, or use --trainer.strategy fsdp2."
            )
        options["strategy"] = FSDP2Strategy(asked._data_parallel_size)
    elif asked == "fsdp2":
        options["strategy"] = FSDP2Strategy()
    if isinstance(options.get("strategy"), FSDP2Strategy):
        options["inference_mode"] = False  # weights that are gathered for a validation may be trained on after it
