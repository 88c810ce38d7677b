"""The data of a run: training, dev and test shards, built or indexed first if they are not yet."""

import dataclasses
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fcot.batch import Batch, PageLayout
from fcot.errors import UserError
from fcot.internvl.augment import check_quality
from fcot.runtime.checkpoints.workers import end_workers
from fcot.runtime.run_folder import run_folder
from shards.feed.ledger import Ledger, Skip
from shards.feed.mixture import read_weights, reading_counts, task_reads, task_sizes
from shards.feed.order import Order
from shards.feed.plain_pairs import NO_PAIRS, Pair, pair_of
from shards.feed.reader import BatchStream, PageLoader, nothing_usable, token_costs
from shards.format.dataset_identity import check_unchanged
from shards.format.index import Array
from shards.format.manifest import is_indexed, read_manifest, set_fingerprint, set_size
from shards.format.shard_set import ShardSet
from shards.format.verify import require_whole

SPLITS = ("train", "dev", "test")


class Shards(LightningDataModule):
    """Streams batches of pages from webdataset shards.

    An epoch reads every training sample once, in an order given by the set, `seed` and the epoch alone. `weights` reads
    some tasks more often at the cost of others, in an epoch of the same length, which `repeat_time` changes.

    Args:
        root: Folder with the sets `train`, `dev` and `test`, each a folder of tar files.
        batch_size: Samples in a training batch on one device.
        eval_batch_size: Samples in a dev or test batch.
        token_budget: Pack the samples of a training batch without padding, at most so many tokens in a pack; a model
            processes one pack after another, and each branch is packed separately (default: pad them).
        tile_budget: Most tiles in a pack; 0 for any number.
        jpeg_quality: Encode each training tile as JPEG at a quality drawn from this to 100, as InternVL does from 75;
            None leaves tiles as they are.
        num_workers: Processes that decode and tokenize; 0 does it in the training process.
        seed: Seed of the order of training samples.
        ordered: Keep the order of training shards and shuffle among neighbours only: a curriculum.
        max_skipped: Largest share of unusable samples before the run stops.
        strict: Verify every byte of the sets before the first step, and stop at any unusable sample.
        weights: How often an epoch reads the samples of a task in proportion to others: `{table: 2, text: 0.5}`, 1
            where nothing is said, or a JSON file with such weights, as the callback TaskLosses writes it.
        repeat_time: How often an epoch reads the samples of a source, 1 is once; sets that were imported may bring
            their own.
        pair: How samples without a conversation, plain image-text pairs, are read: `prompt`, a text or a list to draw
            from, and `answer`, the extension of a text file or json:FIELD. Without a prompt they are set aside.
        train_shards: Folder of the training shards, or one tar file, in place of `root`/train.
        dev_samples: Read at most this many dev samples (default: all).
        test_samples: Read at most this many test samples (default: all).
        recipe: Build missing sets by this recipe of drawn pages (`fcot shards build --help`).
        recipe_samples: Samples to build for each set, such as `{train: 20000, dev: 200, test: 400}`.
        recipe_seed: Seed of the pages to build.
    """

    def __init__(
        self,
        root: Path,
        *,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        token_budget: int | None = None,
        tile_budget: int = 0,
        jpeg_quality: int | None = None,
        num_workers: int = 1,
        seed: int = 0,
        ordered: bool = False,
        max_skipped: float = 0.01,
        strict: bool = False,
        weights: dict[str, float] | Path | None = None,
        repeat_time: dict[str, float] | None = None,
        pair: Pair = NO_PAIRS,
        train_shards: Path | None = None,
        dev_samples: int | None = None,
        test_samples: int | None = None,
        recipe: str | None = None,
        recipe_samples: dict[str, int] | None = None,
        recipe_seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.token_budget, self.tile_budget = token_budget, tile_budget
        self.jpeg_quality = None if jpeg_quality is None else check_quality(jpeg_quality)
        self.seed, self.ordered, self.max_skipped, self.strict = seed, ordered, max_skipped, strict
        self.weights, self.repeat_time = weights or {}, repeat_time
        self.pair = pair_of(pair)
        self.train_shards = None if train_shards is None else Path(train_shards)
        self.limits = {"dev": dev_samples, "test": test_samples}
        self.recipe, self.recipe_samples, self.recipe_seed = recipe, recipe_samples or {}, recipe_seed
        self.ledgers: dict[str, Ledger] = {}
        self._sets: dict[str, ShardSet] = {}
        self._resume: dict[str, Any] | None = None
        self._training: PageLoader | None = None
        self._at: tuple[int, int, dict[str, Any]] | None = None  # epoch, place, counts of the ledger
        self._identity: dict[str, Any] = {}  # what a place in an epoch means nothing without

    def setup(self, stage: str) -> None:
        """Have every run say what it skipped, and end if that is too much."""
        from shards.feed.skipped_samples import SkippedSamples

        callbacks = getattr(self.trainer, "callbacks", [])
        if not any(isinstance(callback, SkippedSamples) for callback in callbacks):
            callbacks.append(SkippedSamples())

    def prepare_data(self) -> None:
        """Build the sets that are missing, if a recipe says how; index those that have no index; verify if strict."""
        from shards.build import build_missing

        if self.recipe:
            own = {"train"} if self.train_shards is not None else set()
            drawn = {split: samples for split, samples in self.recipe_samples.items() if split not in own}
            build_missing(self.root, self.recipe, drawn, seed=self.recipe_seed)
        for split in SPLITS:
            source = self.source(split)
            there = source.is_file() or (source.is_dir() and any(source.glob("*.tar")))
            if there and (self.strict or not is_indexed(read_manifest(source))):
                self.samples(split)

    def source(self, split: str) -> Path:
        """Return where a split's shards are."""
        return self.train_shards if split == "train" and self.train_shards is not None else self.root / split

    def samples(self, split: str) -> ShardSet:
        """Return a split's samples; verified first, if the run is strict.

        Raises:
            UserError: If there are none, or the run is strict and something is wrong with them.
        """
        if split not in self._sets:
            found = ShardSet(self.source(split), pairs=self.pair is not None)
            if self.strict:
                require_whole(found)
            self._sets[split] = found
        return self._sets[split]

    def size(self, split: str) -> int | None:
        """Return how many samples of a split are read, None if its set has no manifest."""
        known, limit = set_size(self.source(split)), self.limits.get(split)
        return known if limit is None else min(limit, known or limit)

    def fingerprint(self, split: str) -> str:
        """Return what identifies the samples of a split: the hash of its manifest, or its files' sizes."""
        return set_fingerprint(self.source(split))

    def order(self, split: str, layout: PageLayout, *, training: bool = False, limit: int | None = None) -> Order:
        """Return the order that a split is read in.

        Args:
            split: "train", "dev" or "test".
            layout: What the models need; says what samples cost.
            training: Shuffle, by the training seed, and mix by the weights.
            limit: Read only the first samples.

        Raises:
            UserError: If no sample is usable.
        """
        samples = self.samples(split)
        usable = samples.usable()
        if not len(usable):
            reasons = ", ".join(f"{count} {reason}" for reason, count in samples.reasons().items())
            raise nothing_usable(samples, len(samples), reasons)
        order = Order(token_costs(samples, layout), usable if limit is None else usable[usable < limit], shuffled=False)
        if not training:
            return order
        counts = self._reading_counts(samples)
        seed = (self.seed, int(samples.manifest_hash[:16], 16))
        counted, groups = counts or (None, None)
        return dataclasses.replace(order, seed=seed, shuffled=True, ordered=self.ordered, counts=counted, groups=groups)

    def _reading_counts(self, samples: ShardSet) -> tuple[Array, Array] | None:
        """Return how often each usable training sample is read in an epoch, and its group."""
        weights, most = read_weights(self.weights) if isinstance(self.weights, Path) else (self.weights, inf)
        return reading_counts(samples, weights, samples.repeat_time | (self.repeat_time or {}), most)

    def task_sizes(self) -> dict[str, int]:
        """Return how many usable training samples each task has."""
        return task_sizes(self.samples("train"))

    def task_reads(self) -> dict[str, float]:
        """Return how often an epoch of this run reads a training sample of each task, in the mean."""
        samples = self.samples("train")
        counts = self._reading_counts(samples)
        return task_reads(samples, counts and counts[0])

    def loader(
        self,
        split: str,
        *,
        training: bool = False,
        with_prompts: bool = False,
        layout: PageLayout | None = None,
        limit: int | None = None,
        whole: bool = False,
        at: tuple[int, int] = (0, 0),
    ) -> PageLoader:
        """Return a loader of the batches of a split.

        Args:
            split: "train", "dev" or "test".
            training: Shuffle, by the training seed.
            with_prompts: Add prompts for generation.
            layout: What the models need (default: asked of the trainer's module).
            limit: Read only this many samples (default: the split's own limit).
            whole: Give every process all samples instead of its share.
            at: Epoch and place to begin at, a number of samples that were read in it before.

        Raises:
            UserError: If the module is not one of fcot's, or the set is missing or too small.
        """
        layout = layout or getattr(self.trainer and self.trainer.lightning_module, "layout", None)
        if layout is None:
            raise UserError(
                "The module has no page layout, so pages cannot be cut for it.\n"
                "Use fcot.Realign or fcot.SFT, or give your module a `layout` (fcot.batch.PageLayout)."
            )
        rank, ranks = 0, 1
        if self.trainer is not None and not whole:
            rank, ranks = self.trainer.global_rank, self.trainer.world_size
        limit = limit or (None if training else self.limits.get(split))
        samples = self.samples(split)
        order = self.order(split, layout, training=training, limit=limit)
        if not training and len(order.usable) < ranks:
            raise UserError(
                f"The {split} set has {len(order.usable)} usable samples for {ranks} processes.\n"
                "Give each at least one, or run on fewer devices."
            )
        stream = BatchStream(
            samples,
            layout,
            order,
            batch_size=self.batch_size if training else self.eval_batch_size,
            rank=rank,
            world_size=ranks,
            training=training,
            with_prompts=with_prompts,
            token_budget=self.token_budget if training else None,
            tile_budget=self.tile_budget,
            jpeg_quality=self.jpeg_quality if training else None,
            pair=self.pair,
            pair_seed=self.seed,
        )
        ledger = Ledger(self._skipped_file(), len(samples), self.max_skipped, split, strict=self.strict)
        self.ledgers[split] = ledger
        for sentence in samples.changed() if rank == 0 else ():
            ledger.name(Skip(f"{samples.source.name}", "", "changed_shard", sentence))
            print(f"{split}: {sentence}; its samples are checked one by one.")
        aside = [Skip(*row) for row in samples.quarantined(limit)] if rank == 0 else []
        steps = len(stream.steps(order.epoch(at[0])))
        return PageLoader(stream, ledger, num_workers=min(self.num_workers, steps), at=at, quarantined=aside)

    def _skipped_file(self) -> Path | None:
        """Return the run's `skipped.jsonl`, its folder made; None without a run."""
        if self.trainer is None:
            return None
        folder = run_folder(self.trainer)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "skipped.jsonl"

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches, from where a checkpoint left off."""
        self._training = self.loader("train", training=True)
        order = self._training.stream.order.fingerprint()
        self._identity = {"set": self.samples("train").manifest_hash, "seed": self.seed, "order": order}
        if self.pair is not None:
            self._identity["pair"] = dataclasses.asdict(self.pair)
        if self._resume is not None:
            check_unchanged(self._resume, self._identity, self.source("train"))
            self._training.begin_at(int(self._resume["epoch"]), int(self._resume["samples"]))
            if "counts" in self._resume and self._training.stream.rank == 0:  # they are of all processes
                self._training.ledger.add(self._resume["counts"])
        self._at = (*self._training.next_pass, self._training.ledger.counts())
        return self._training

    def val_dataloader(self) -> DataLoader[Batch]:
        """Dev batches."""
        return self.loader("dev", with_prompts=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test batches."""
        return self.loader("test", with_prompts=True)

    def predict_dataloader(self) -> "OpaqueLoader":
        """The test batches again."""
        return OpaqueLoader(self.test_dataloader())

    def on_exception(self, exception: BaseException) -> None:
        """Stop workers at once when the trainer fails: it would wait for all of them to finish their batches."""
        end_workers()

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Stop the run when too many samples were unusable, and note which batch is trained on."""
        if self.trainer is None or self.trainer.world_size == 1:  # of several, SkippedSamples asks all
            for ledger in self.ledgers.values():
                ledger.check()
        if self.trainer is not None and self.trainer.training and self._training is not None and self._training.given:
            self._at = self._training.given.popleft()  # a trainer fetches ahead: handed over is not yet trained on
        return batch

    def end_pass(self) -> None:
        """Note that training continues at the start of the next epoch, however much of this one it has read."""
        if self._training is not None:
            self._at = (*self._training.next_pass, self._training.ledger.counts())

    def state_dict(self) -> dict[str, Any]:
        """Return where training stands in its data: the epoch, how many of its samples are behind, how many were used.

        The counts are of this process; `SkippedSamples` adds those of the others when a checkpoint is written.
        """
        if self._at is None:
            return {}
        epoch, samples, counts = self._at
        return {"epoch": epoch, "samples": samples, "counts": counts, **self._identity}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint left off, on however many devices."""
        self._resume = state_dict or None


class OpaqueLoader:
    """Batches of a loader, hidden from Lightning, which would rebuild a loader for predictions or fail to."""

    def __init__(self, loader: DataLoader[Batch]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)
