"""Stream shards into batches."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from torch.utils.data import IterableDataset, get_worker_info

from fcot.batch import Batch, PageLayout, Sequences, answer_positions
from fcot.errors import UserError
from fcot.internvl.tokens import IGNORED, Encoded, SampleError, expand, pad
from shards.decode import Prepared, prepare
from shards.ledger import Ledger
from shards.writer import MANIFEST

BUCKET_BATCHES = 8  # batches drawn together and sorted by length, so that little is spent on padding


def shard_paths(source: Path) -> list[Path]:
    """Return the tar files of a set: a folder of them, or one file.

    Raises:
        UserError: If there is none.
    """
    found = sorted(source.glob("*.tar")) if source.is_dir() else [source] if source.is_file() else []
    if not found:
        raise UserError(
            f"There are no shards at {str(source)!r}.\n"
            "Build the tiny world's with `python -m fcot shards build`, or give the folder of your tar files."
        )
    return found


def set_size(source: Path) -> int | None:
    """Return how many samples a set's manifest counts, None without a manifest."""
    manifest = source / MANIFEST
    return int(json.loads(manifest.read_text())["samples"]) if manifest.is_file() else None


def shard_sizes(source: Path) -> dict[str, int]:
    """Return how many samples each shard has by a set's manifest, {} if it does not say."""
    manifest = source / MANIFEST
    listed = json.loads(manifest.read_text()).get("shards", []) if manifest.is_file() else []
    return {shard["name"]: shard["samples"] for shard in listed}


def set_fingerprint(source: Path) -> str:
    """Return the sha256 of a set's manifest, which holds its shards' hashes; without one, of names and sizes."""
    manifest = source / MANIFEST
    listed = (
        manifest.read_text() if manifest.is_file() else str([(p.name, p.stat().st_size) for p in shard_paths(source)])
    )
    return hashlib.sha256(listed.encode()).hexdigest()


def collate(samples: Sequence[Prepared], layout: PageLayout) -> Batch:
    """Batch prepared samples, ids padded for each side of the layout."""
    image_id, fill = layout.encoder.image_token_id, layout.encoder.tokenizer.pad_token_id

    def side(tokens: int) -> Sequences:
        ids, labels = zip(*(expand(sample.encoded, tokens, image_id) for sample in samples), strict=True)
        prompts = [sample.prompt for sample in samples if sample.prompt is not None]
        rows = [expand(prompt, tokens, image_id)[0] for prompt in prompts]
        padded = pad(labels, IGNORED)
        return Sequences(
            input_ids=pad(ids, fill),
            labels=padded,
            answers=answer_positions(padded),
            prompt_ids=pad(rows, fill, left=True) if rows else None,
            prompt_mask=pad([np.ones_like(row) for row in rows], 0, left=True) if rows else None,
        )

    return Batch(
        keys=[sample.key for sample in samples],
        tasks=[sample.task for sample in samples],
        questions=[sample.question for sample in samples],
        references=[sample.references for sample in samples],
        num_tiles=torch.tensor([len(sample.tiles) for sample in samples]),
        tiles=torch.cat([sample.tiles for sample in samples]),
        sequences={name: side(tokens) for name, tokens in layout.tokens_per_tile.items()},
    )


class BatchStream(IterableDataset[Batch]):
    """Batches of similar length from a set of shards; one pass is one epoch.

    Args:
        source: Folder of shards.
        layout: What the models need.
        ledger: Where skipped samples are counted.
        batch_size: Samples in a batch.
        shuffle_seed: Shuffles shards and samples, differently each epoch; None keeps their order.
        ordered_shards: Keep the order of shards, shuffle only among neighbours: a set that is a curriculum.
        with_prompts: Add prompts for generation.
        limit: Read only this many samples.
        whole: Give every process all samples instead of its share.
    """

    def __init__(
        self,
        source: Path,
        layout: PageLayout,
        ledger: Ledger,
        *,
        batch_size: int,
        shuffle_seed: int | None = None,
        ordered_shards: bool = False,
        with_prompts: bool = False,
        limit: int | None = None,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.paths, self.sizes = shard_paths(source), shard_sizes(source)
        self.layout, self.ledger = layout, ledger
        self.batch_size, self.limit = batch_size, limit
        self.shuffle_seed, self.ordered_shards = shuffle_seed, ordered_shards
        self.with_prompts, self.whole = with_prompts, whole
        self.epoch = 0

    def __iter__(self) -> Iterator[Batch]:
        if self.epoch > 0 and self.shuffle_seed is not None and self.ledger.seen == self.ledger.skipped:
            # a trainer would start one empty epoch after another, for ever
            raise UserError(
                f"None of the {self.ledger.seen} samples in {self.paths[0].parent} could be used "
                f"({self.ledger.summary()}).\nGive shards in the canonical form: images and a .json of conversations."
            )
        seed = None if self.shuffle_seed is None else [self.shuffle_seed, self.epoch]
        rng = None if seed is None else np.random.default_rng(seed)
        self.epoch += 1
        bucket: list[Prepared] = []
        for sample in self._prepared(rng):
            bucket.append(sample)
            if len(bucket) == self.batch_size * BUCKET_BATCHES:
                yield from self._batches(bucket, rng)
                bucket = []
        yield from self._batches(bucket, rng)

    def _raw(self, rng: np.random.Generator | None) -> Iterator[dict[str, Any]]:
        order = np.arange(len(self.paths))
        if rng is not None and not self.ordered_shards:
            rng.shuffle(order)
        urls = [str(self.paths[index]) for index in order]
        stream: Iterator[dict[str, Any]] = iter(
            wds.DataPipeline(
                wds.SimpleShardList(urls),
                *([] if self.whole else [wds.split_by_node]),
                *([wds.split_by_worker] if self.limit is None else []),
                wds.tarfile_to_samples(handler=wds.reraise_exception),
            )
        )
        read: Counter[str] = Counter()
        try:
            for raw in stream:
                read[Path(raw["__url__"]).name] += 1
                yield raw
        except Exception as error:  # tar readers raise many types; each means the same here
            raise UserError(
                f"A shard in {self.paths[0].parent} cannot be read ({error}).\nFetch it or build the set again."
            ) from error
        # a shard cut between two members, or with a damaged header, ends early without any error
        short = [name for name, count in read.items() if count != self.sizes.get(name, count)]
        if short:
            raise UserError(
                f"{self.paths[0].parent / short[0]} has {read[short[0]]} samples, and the set's {MANIFEST} says "
                f"{self.sizes[short[0]]}.\nThe file is damaged: fetch it or build the set again."
            )

    def _prepared(self, rng: np.random.Generator | None) -> Iterator[Prepared]:
        worker = get_worker_info()
        if self.limit is not None and worker is not None and worker.id > 0:
            return  # the first worker reads alone: what a limit keeps must not depend on how many there are
        for number, raw in enumerate(self._raw(rng)):
            if number == self.limit:
                return
            self.ledger.saw()
            try:
                yield prepare(raw, self.layout, with_prompt=self.with_prompts)
            except SampleError as error:
                shard = Path(raw["__url__"])
                self.ledger.skip(f"{shard.parent.name}/{shard.name}", str(raw["__key__"]), error)

    def _batches(self, bucket: list[Prepared], rng: np.random.Generator | None) -> Iterator[Batch]:
        bucket = sorted(bucket, key=lambda sample: self._length(sample.encoded))
        starts = np.arange(0, len(bucket), self.batch_size)
        if rng is not None:
            rng.shuffle(starts)
        for start in starts:
            yield collate(bucket[start : start + self.batch_size], self.layout)

    def _length(self, encoded: Encoded) -> int:
        return len(encoded.ids) + sum(encoded.tiles) * self.layout.encoder.teacher_tokens_per_tile
