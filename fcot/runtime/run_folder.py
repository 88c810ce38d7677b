"""Where a run keeps what it makes."""

from pathlib import Path

from lightning.pytorch import Trainer

CHECKPOINTS = "checkpoints"


def run_folder(trainer: Trainer) -> Path:
    """Return the run folder: `trainer.default_root_dir`, whatever loggers there are.

    Lightning's `trainer.log_dir` is the first logger's folder, which changes each time a run is resumed. Loggers still
    write to their own folders.
    """
    return Path(trainer.default_root_dir)
