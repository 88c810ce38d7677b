"""The checkpoints of the step that a run ends with, whatever ended it."""

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fcot.runtime.checkpoints.exact_resume import ExactResume
from fcot.runtime.checkpoints.last_checkpoint import LastCheckpoint, keepers_of


class LastStep(Callback):
    """Saves the step that a run ends with before other callbacks change weights in `on_train_end`.

    Epochs, `Timer`, `EarlyStopping` or anything else may end a run, which is not known in advance. A `ModelCheckpoint`
    with `save_last` that has saved nothing yet saves at the end: after a merge, whose weights are no step of this run.
    So this callback makes it save earlier. It should be among the first callbacks in line.

    Args:
        position: Knows whether a validation is owed, after which a `ModelCheckpoint` may save.
    """

    def __init__(self, position: ExactResume) -> None:
        self.position = position

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Keep a `ModelCheckpoint` from saving again the step that the run resumes from, which it does not remember."""
        for keeper in [] if self.position.owed else keepers_of(trainer):
            keeper._last_global_step_saved = trainer.global_step

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Save it, unless it was."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for keeper in keepers_of(trainer):
            if isinstance(keeper, LastCheckpoint):
                keeper.write_unless_written(trainer)
            else:
                ModelCheckpoint.on_train_end(keeper, trainer, pl_module)
