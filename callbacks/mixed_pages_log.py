"""Keep what the mixed pages of an elastic re-alignment have cost, for the fit of a router."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fcot.errors import UserError
from fcot.route.fit import MixedPages
from fcot.runtime.run_folder import run_folder
from fcot.training.mixed_log import write_pages
from fcot.training.realign import Realign


class MixedPagesLog(Callback):
    """Writes ratios, descriptions of tiles and KL of the last steps' mixed pages into the run's folder `mixed`.

    `fcot router fit STUDENT --log RUN/mixed` then fits a router without any further pass over training pages. Needs
    `elastic: true` and a share of `mixed` steps.

    Args:
        pages: Most pages that each process keeps, the last ones; a page of 13 tiles takes 0.6 MB for InternVL2-2B.
    """

    def __init__(self, pages: int = 4000) -> None:
        super().__init__()
        if pages < 1:
            raise UserError(f"MixedPagesLog.pages is {pages}.\nGive at least 1.")
        self.pages = pages
        self.batch = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the module hand over its mixed pages.

        Raises:
            UserError: If it has none.
        """
        if not isinstance(pl_module, Realign) or not pl_module.elastic or not pl_module.mixed:
            raise UserError(
                "MixedPagesLog has nothing to log: this run has no mixed pages.\n"
                "Set --model.elastic true and --model.mixed 0.1, or leave the callback out."
            )
        folder = run_folder(trainer) / "mixed"

        def write(pages: MixedPages) -> None:
            write_pages(Path(folder), self.batch, trainer.global_rank, pages, self.pages)

        pl_module.on_mixed_pages = write

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the number of the batch in the run."""
        self.batch = trainer.fit_loop.total_batch_idx

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take nothing more."""
        if isinstance(pl_module, Realign):
            pl_module.on_mixed_pages = None
