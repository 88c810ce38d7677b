"""Save the trained student as a model folder at the end of training."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from fcot.module import PageModule
from fcot.student import save_student


class SaveStudent(Callback):
    """Writes the student to a folder that `from_pretrained` loads, ready for post-training, tests or serving.

    Args:
        folder: Where to write (default: `student` in the run folder).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder, on the first process."""
        folder = self.folder or Path(trainer.log_dir or trainer.default_root_dir) / "student"
        if trainer.fast_dev_run or not isinstance(pl_module, PageModule):  # type: ignore[attr-defined]
            return
        if trainer.is_global_zero:
            save_student(pl_module.pair.student, folder, pl_module.folder.path)
            trainer.print(f"Saved the student to {folder}")
