"""Repeat a validation during which a run was interrupted."""

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer

from fcot.runtime.checkpoints.exact_resume import ExactResume


class PendingValidation(Callback):
    """Starts a resumed run with the validation that was due or in progress at its checkpoint, from its first batch.

    Callbacks see it as they would have seen it, at the same step; so what depends on its metrics has the same future.
    After the last validation of an epoch `on_train_epoch_end` is not called again: it belongs to the earlier run.

    Args:
        position: Knows whether one is owed. The last callback in line should run it: the others have begun then.
    """

    def __init__(self, position: ExactResume) -> None:
        self.position = position

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Run it."""
        if not self.position.owed:
            return
        loop = trainer.fit_loop.epoch_loop
        after = loop._batches_that_stepped
        # loggers count a step once its validation is over
        loop._batches_that_stepped = trainer.global_step - (not self.position.accumulating(trainer))
        loop.val_loop.restarting = False
        trainer.validating = True
        loop.val_loop.run()
        trainer.training = True
        loop._batches_that_stepped = after
