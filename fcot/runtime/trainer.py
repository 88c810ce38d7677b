"""The Trainer: Lightning's, with defaults that suit reading pages."""

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy

from fcot.errors import UserError
from fcot.runtime.checkpoints.exact_resume import ExactResume, callbacks_of
from fcot.runtime.checkpoints.last_checkpoint import LastCheckpoint, folders_of_run, newest_of_run
from fcot.runtime.checkpoints.last_step import LastStep
from fcot.runtime.checkpoints.pending_validation import PendingValidation
from fcot.runtime.checkpoints.plugin import FolderCheckpointIO
from fcot.runtime.checkpoints.preemption import NotedSignals, Preemption
from fcot.runtime.npu import NPUAccelerator, npu_precision, npu_strategy
from fcot.runtime.refused_callbacks import refuse_callbacks
from fcot.runtime.run_folder import CHECKPOINTS
from fcot.runtime.strategy import FSDP2Strategy

DEFAULT = ModelCheckpoint.setup  # others, such as Snapshots, settle their folder themselves


class Trainer(LightningTrainer):
    """Lightning's Trainer with a run folder, exact resuming, an orderly end on signals, and Ascend NPUs.

    Args:
        default_root_dir: Folder of the run: configuration, logs, checkpoints.
        checkpoint_every_n_steps: Optimizer steps between two checkpoints in `checkpoints/`, of which
            `--ckpt_path last` resumes from the newest valid one; 0 writes none. A ModelCheckpoint adds its own.
        collective_timeout: Seconds after which a process that waits for the others gives up.
        enable_model_summary: Print Lightning's table of layers.
        options: Everything else is Lightning's.

    Raises:
        UserError: If an NPU is asked for and none is there, or a callback cannot do here what it is for.
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
            keep_checkpoints(options, root / CHECKPOINTS, checkpoint_every_n_steps)
            if options.get("logger") in (None, True):
                options["logger"] = TensorBoardLogger(root, name="", version="")
        use_npu(options)
        use_fsdp2(options)
        super().__init__(default_root_dir=root, enable_model_summary=enable_model_summary, **options)
        refuse_callbacks(self)
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
        path: str | Path | None = ckpt_path
        if again or ckpt_path == "last":
            path = newest_of_run(self) or (None if ckpt_path == "last" else ckpt_path)
            if path is None:
                looked = " or ".join(str(folder) for folder in folders_of_run(self))
                self.print(f"There is no checkpoint to go on from in {looked}: this run begins anew.")
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
        if self.state.fn != "fit" or self.ckpt_path is None:
            return super()._run_stage()
        self.should_stop |= any(position.asks_to_end(self) for position in callbacks_of(self, ExactResume))
        over = self.fit_loop.done
        result = super()._run_stage()
        if over:
            early = self.should_stop and self.global_step != self.max_steps
            why = ", where a callback ended it: leave that out or let it wait longer to go on" if early else ""
            self.print(f"This run was over at step {self.global_step}{why}. Only the work of its end is done again.")
            self.fit_loop.on_run_start()
            self.fit_loop.on_run_end()
        return result


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
    for callback in chosen:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None and type(callback).setup is DEFAULT:
            # Lightning takes a folder of the first logger, another one in each process
            callback.dirpath = str(folder.resolve())
    # first in line: others may save or fail in the same hooks
    position = ExactResume()
    options["callbacks"] = [position, LastStep(position), Preemption(position), *chosen, PendingValidation(position)]
    if every_n_steps > 0 and options.get("enable_checkpointing") is not False:
        options["callbacks"].append(LastCheckpoint(folder, every_n_steps))
    elif options.get("enable_checkpointing") is None:  # or Lightning would add a ModelCheckpoint
        options["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in chosen)


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
