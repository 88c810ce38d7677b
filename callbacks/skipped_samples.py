"""Say how many samples could not be used, and why."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fcot.errors import UserError
from shards.ledger import Ledger


class SkippedSamples(Callback):
    """Says after each pass over the data how many samples were skipped, and ends a run that skipped too many.

    While a set is being read, `Ledger.check` judges the skipped share by the size in the set's manifest, or by 1000
    samples if there is none. Once a pass has read the whole set, its true size is known and judged by. A pass that
    ended before is not judged again: what is seen of a set may be its worst part.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[Ledger, int]] = {}  # what the last line of a split was about

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report on all sets read so far, judge the training set."""
        self._report(trainer, pl_module)
        self._judge(trainer, "train", _whole(trainer.fit_loop.epoch_loop, trainer.limit_train_batches))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the dev set; report on it, in training at the end of the epoch."""
        if trainer.sanity_checking:
            return
        fitting = trainer.state.fn == "fit"
        if not fitting:
            self._report(trainer, pl_module)
        loop = trainer.fit_loop.epoch_loop.val_loop if fitting else trainer.validate_loop
        self._judge(trainer, "dev", _whole(loop, trainer.limit_val_batches))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report on the test set and judge it."""
        self._report(trainer, pl_module)
        self._judge(trainer, "test", _whole(trainer.test_loop, trainer.limit_test_batches))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report on the test set."""
        self._report(trainer, pl_module)

    def _report(self, trainer: Trainer, module: LightningModule) -> None:
        """Print a line for each split that skipped samples since its last line."""
        for split, ledger in _ledgers(trainer).items():
            counts = torch.tensor([ledger.seen, ledger.skipped], device=trainer.strategy.root_device)
            seen, skipped = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
            said, before = self._said.get(split, (ledger, 0))
            if skipped > (before if said is ledger else 0):
                where = "" if ledger.path is None else f"; named in {ledger.path}"
                module.print(f"{split}: {skipped} of {seen} samples skipped: {ledger.summary()}{where}")
            self._said[split] = (ledger, skipped)

    def _judge(self, trainer: Trainer, split: str, whole: bool) -> None:
        """End the run if a set that was wholly read has too many unusable samples; all processes together.

        Raises:
            UserError: If more than the ledger's `max_skipped` of the set was skipped.
        """
        ledger = _ledgers(trainer).get(split)
        error: UserError | None = None
        if ledger is not None and whole and not _limited(trainer, split, ledger):
            try:
                ledger.check(final=True)
            except UserError as found:
                error = found
        if trainer.strategy.reduce_boolean_decision(error is not None, all=False):
            raise error or UserError(
                f"Another process skipped too many samples of the {split} set.\nIts own message says which."
            )


def _ledgers(trainer: Trainer) -> dict[str, Ledger]:
    return getattr(getattr(trainer, "datamodule", None), "ledgers", {})


def _whole(loop: Any, limit: float | int | None) -> bool:
    """Return whether a loop's last pass ended because the data did."""
    return bool(loop.batch_progress.is_last_batch) and limit == 1.0 and not isinstance(limit, int)


def _limited(trainer: Trainer, split: str, ledger: Ledger) -> bool:
    """Return whether the data module reads only the first samples of a set."""
    limit = getattr(getattr(trainer, "datamodule", None), "limits", {}).get(split)
    return limit is not None and (ledger.total is None or limit < ledger.total)
