"""Save the trained student as a model folder at the end of training."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from fcot.errors import UserError
from fcot.models.branches import named
from fcot.runtime.run_folder import run_folder
from fcot.training.base_task import BaseTask
from fcot.training.saving import MODEL, save_students


class SaveStudent(Callback):
    """Writes the student to a folder that `from_pretrained` loads, ready for post-training, tests or serving.

    Students at further ratios go to folders beside it, such as `student-r4`.

    Args:
        folder: Where to write (default: `student` in the run folder).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to train for hours towards a folder that holds something else.

        Raises:
            UserError: If it does.
        """
        for folder in self._folders(trainer, pl_module).values():
            if folder.exists() and not MODEL.is_at(folder) and (folder.is_file() or any(folder.iterdir())):
                raise UserError(
                    f"The student's folder {folder} holds something that is no model.\n"
                    "Move it, or choose another SaveStudent.folder."
                )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folders, on the first process."""
        folders = self._folders(trainer, pl_module)
        if trainer.fast_dev_run or not isinstance(pl_module, BaseTask):  # type: ignore[attr-defined]
            return
        save_students(pl_module, folders)
        for folder in folders.values():
            trainer.print(f"Saved the student to {folder}")

    def _folders(self, trainer: Trainer, module: LightningModule) -> dict[str, Path]:
        """Return where each student goes; further ones have their ratio behind the name, as in `student-r4`."""
        folder = self.folder or run_folder(trainer) / "student"
        branches = module.saved_branches if isinstance(module, BaseTask) else []
        return {branch: folder.with_name(named(folder.name, branch)) for branch in branches}
