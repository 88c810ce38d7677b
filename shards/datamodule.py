"""The data of a run: training, dev and test shards, built first if a recipe says how."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fcot.batch import Batch, PageLayout
from fcot.errors import UserError
from shards.ledger import Ledger
from shards.reader import BatchStream, set_fingerprint, set_size


class Shards(LightningDataModule):
    """Streams batches of pages from webdataset shards.

    Args:
        root: Folder with the sets `train`, `dev` and `test`, each a folder of tar files.
        batch_size: Samples in a training batch on one device.
        eval_batch_size: Samples in a dev or test batch.
        num_workers: Processes that decode and tokenize; 0 does it in the training process.
        seed: Seed of the order of training samples.
        ordered: Keep the order of training shards and shuffle among neighbours only: a curriculum.
        max_skipped: Largest share of unusable samples before the run stops.
        dev_samples: Read at most this many dev samples (default: all).
        test_samples: Read at most this many test samples (default: all).
        recipe: Build missing sets by this recipe of drawn pages (`python -m fcot shards build --help`).
        recipe_samples: Samples to build for each set, such as `{train: 20000, dev: 200, test: 400}`.
        recipe_seed: Seed of the pages to build.
    """

    def __init__(
        self,
        root: Path,
        *,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        num_workers: int = 1,
        seed: int = 0,
        ordered: bool = False,
        max_skipped: float = 0.01,
        dev_samples: int | None = None,
        test_samples: int | None = None,
        recipe: str | None = None,
        recipe_samples: dict[str, int] | None = None,
        recipe_seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed, self.ordered, self.max_skipped = seed, ordered, max_skipped
        self.limits = {"dev": dev_samples, "test": test_samples}
        self.recipe, self.recipe_samples, self.recipe_seed = recipe, recipe_samples or {}, recipe_seed
        self.ledgers: dict[str, Ledger] = {}

    def prepare_data(self) -> None:
        """Build the sets that are missing, if a recipe says how."""
        if self.recipe is None:
            return
        from shards.build import build_set

        for split, samples in self.recipe_samples.items():
            if not (self.root / split).exists():
                build_set(self.root, self.recipe, split, samples, seed=self.recipe_seed)

    def size(self, split: str) -> int | None:
        """Return how many samples of a split are read, None if its set has no manifest."""
        known, limit = set_size(self.root / split), self.limits.get(split)
        return known if limit is None else min(limit, known or limit)

    def fingerprint(self, split: str) -> str:
        """Return what tells the samples of a split from others': the hash of its manifest, or its files' sizes."""
        return set_fingerprint(self.root / split)

    def stream(
        self,
        split: str,
        *,
        training: bool = False,
        with_prompts: bool = False,
        layout: PageLayout | None = None,
        limit: int | None = None,
        whole: bool = False,
    ) -> BatchStream:
        """Return the batches of a split.

        Args:
            split: "train", "dev" or "test".
            training: Shuffle, by the training seed.
            with_prompts: Add prompts for generation.
            layout: What the models need (default: asked of the trainer's module).
            limit: Read only this many samples (default: the split's own limit).
            whole: Give every process all samples instead of its share.

        Raises:
            UserError: If the module is not one of fcot's, or the set is missing.
        """
        if layout is None:
            layout = getattr(self.trainer and self.trainer.lightning_module, "layout", None)
        if layout is None:
            raise UserError(
                "The module has no page layout, so pages cannot be cut for it.\n"
                "Use fcot.Realign or fcot.SFT, or give your module a `layout` (fcot.batch.PageLayout)."
            )
        source = self.root / split
        self.ledgers[split] = Ledger(self._skipped_file(), set_size(source), self.max_skipped, split)
        return BatchStream(
            source,
            layout,
            self.ledgers[split],
            batch_size=self.batch_size if training else self.eval_batch_size,
            shuffle_seed=self.seed if training else None,
            ordered_shards=self.ordered,
            with_prompts=with_prompts,
            limit=limit or (None if training else self.limits.get(split)),
            whole=whole,
        )

    def _skipped_file(self) -> Path | None:
        """Return the run's `skipped.jsonl`, its folder made; None without a run."""
        if self.trainer is None:
            return None
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "skipped.jsonl"

    def loader(self, split: str, **options: Any) -> DataLoader[Batch]:
        """Return a loader of whole batches; options as for `stream`."""
        stream = self.stream(split, **options)
        workers = min(self.num_workers, len(stream.paths))
        ahead: dict[str, Any] = {"prefetch_factor": 4, "persistent_workers": True} if workers else {}
        return DataLoader(stream, batch_size=None, num_workers=workers, **ahead)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches."""
        return self.loader("train", training=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Dev batches."""
        return self.loader("dev", with_prompts=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test batches."""
        return self.loader("test", with_prompts=True)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test batches again."""
        return self.test_dataloader()

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Stop the run when too many samples were unusable."""
        for ledger in self.ledgers.values():
            ledger.check()
        return batch
