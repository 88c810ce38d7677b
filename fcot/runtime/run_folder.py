"""Where a run keeps what it makes."""

from pathlib import Path

from lightning.pytorch import Trainer

CHECKPOINTS = "checkpoints"


def run_folder(trainer: Trainer) -> Path:
    """Return the run folder: `trainer.default_root_dir`, whatever loggers there are.

    Lightning's `trainer.log_dir` is the first logger's folder, which is another one each time a run is resumed. What
    loggers write stays in theirs.
    """
    return Path(trainer.default_root_dir)
