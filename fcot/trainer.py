"""The Trainer: Lightning's, with defaults that suit reading pages."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO

from fcot.accelerators.npu import NPUAccelerator, npu_precision, npu_strategy
from fcot.errors import UserError
from fcot.resume import DurableCheckpointIO, LastCheckpoint


class Trainer(LightningTrainer):
    """Lightning's Trainer with a run folder, a checkpoint to resume from, and Ascend NPUs.

    Args:
        default_root_dir: Folder of the run: configuration, logs, checkpoints.
        checkpoint_every_n_steps: Optimizer steps between two writes of `checkpoints/last.ckpt`, which
            `--ckpt_path last` resumes from; 0 writes none.
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
        enable_model_summary: bool = False,
        **options: Any,
    ) -> None:
        root = Path(default_root_dir)
        if not options.get("barebones"):  # which measures Lightning's overhead, and refuses all of this
            keep_last(options, root / "checkpoints", checkpoint_every_n_steps)
            if options.get("logger") in (None, True):
                options["logger"] = TensorBoardLogger(root, name="", version="")
        use_npu(options)
        super().__init__(default_root_dir=root, enable_model_summary=enable_model_summary, **options)

    def last_checkpoints(self) -> set[str]:
        """Return the files that `ckpt_path="last"` would choose from."""
        keepers = [callback for callback in self.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        return {path for keeper in keepers for path in keeper._find_last_checkpoints(self)}


def listed(value: Any) -> list[Any]:
    """Return one or many or none as a new list."""
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) else [value]


def keep_last(options: dict[str, Any], folder: Path, every_n_steps: int) -> None:
    """Have checkpoints written durably, and a last one kept, unless the options say otherwise."""
    options["plugins"] = listed(options.get("plugins"))
    if not any(isinstance(plugin, CheckpointIO) for plugin in options["plugins"]):
        options["plugins"].append(DurableCheckpointIO())
    options["callbacks"] = listed(options.get("callbacks"))
    kept = any(isinstance(callback, ModelCheckpoint) and callback.save_last for callback in options["callbacks"])
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
