"""Say how many samples could not be used, and why."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fcot.runtime.processes import of_all
from shards.feed.ledger import Ledger

EVERY = 50  # batches between two looks at what several processes skipped


class SkippedSamples(Callback):
    """Says after each pass over the data how many samples were skipped, and ends a run that skipped too many.

    `Shards` adds it to every run. Samples of all processes count together, and those before a checkpoint with those
    behind it.

    While a set is being read, `Ledger.check` judges the skipped share by the size in the set's manifest, or by 1000
    samples if there is none. Once a pass has read the whole set, its true size is known and judged by. A pass that
    ended before is not judged again: what is seen of a set may be its worst part.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[Ledger, int]] = {}  # what the last line of a split was about

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judge what several processes skipped so far; of one alone, the data module does at every batch."""
        if trainer.world_size > 1 and (batch_idx + 1) % EVERY == 0:
            for ledger in _of_all(trainer).values():
                ledger.check()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the counts of all processes with the place in the data: the rest is the first one's."""
        name = type(getattr(trainer, "datamodule", None)).__qualname__
        state = checkpoint.get(name, {})
        if trainer.world_size > 1 and "counts" in state:
            together = _ledgers(trainer)["train"].together(of_all(state["counts"]))
            checkpoint[name] = {**state, "counts": together.counts()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report on all sets read so far, judge the training set."""
        ledgers = self._report(trainer, pl_module)
        if _whole(trainer.fit_loop.epoch_loop, trainer.limit_train_batches):
            _judge(trainer, "train", ledgers)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the dev set; report on it, in training at the end of the epoch."""
        if trainer.sanity_checking:
            return
        fitting = trainer.state.fn == "fit"
        ledgers = _of_all(trainer) if fitting else self._report(trainer, pl_module)
        loop = trainer.fit_loop.epoch_loop.val_loop if fitting else trainer.validate_loop
        if _whole(loop, trainer.limit_val_batches):
            _judge(trainer, "dev", ledgers)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report on the test set and judge it."""
        ledgers = self._report(trainer, pl_module)
        if _whole(trainer.test_loop, trainer.limit_test_batches):
            _judge(trainer, "test", ledgers)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report on the test set."""
        self._report(trainer, pl_module)

    def _report(self, trainer: Trainer, module: LightningModule) -> dict[str, Ledger]:
        """Print a line for each split that skipped samples since its last line; return the ledgers of all processes."""
        ledgers = _of_all(trainer)
        for split, ledger in ledgers.items():
            own = _ledgers(trainer)[split]
            said, before = self._said.get(split, (own, 0))
            if ledger.skipped > (before if said is own else 0):
                where = "" if ledger.path is None else f"; named in {ledger.path}"
                module.print(f"{split}: {ledger.skipped} of {ledger.seen} samples skipped: {ledger.summary()}{where}")
            self._said[split] = (own, ledger.skipped)
        return ledgers


def _ledgers(trainer: Trainer) -> dict[str, Ledger]:
    return getattr(getattr(trainer, "datamodule", None), "ledgers", {})


def _of_all(trainer: Trainer) -> dict[str, Ledger]:
    """Return this process's ledgers with the counts of all processes, which must all ask."""
    own = _ledgers(trainer)
    parts = of_all({split: ledger.counts() for split, ledger in own.items()})
    return {split: ledger.together(part[split] for part in parts if split in part) for split, ledger in own.items()}


def _judge(trainer: Trainer, split: str, ledgers: dict[str, Ledger]) -> None:
    """End the run if a set that was wholly read has too many unusable samples; all processes find the same.

    Raises:
        UserError: If more than the ledger's `max_skipped` of the set was skipped.
    """
    ledger = ledgers.get(split)
    if ledger is not None and not _limited(trainer, split, ledger):
        ledger.check(final=True)


def _whole(loop: Any, limit: float | int | None) -> bool:
    """Return whether a loop's last pass ended because the data did."""
    return bool(loop.batch_progress.is_last_batch) and limit == 1.0 and not isinstance(limit, int)


def _limited(trainer: Trainer, split: str, ledger: Ledger) -> bool:
    """Return whether the data module reads only the first samples of a set."""
    limit = getattr(getattr(trainer, "datamodule", None), "limits", {}).get(split)
    return limit is not None and (ledger.total is None or limit < ledger.total)
