"""Batches of a set, in an order that depends on neither ranks nor workers."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fcot.batch import Batch, PageLayout
from fcot.errors import SampleError, UserError
from fcot.internvl.augment import jpeg_marks
from fcot.runtime.checkpoints.workers import OutlivesSigterm
from shards.feed.collate import collate, idle_batch
from shards.feed.conversation import id_of, parse
from shards.feed.decode import Prepared, prepare
from shards.feed.ledger import Ledger, Skip
from shards.feed.order import Epoch, Order, share
from shards.feed.plain_pairs import HINT, Pair
from shards.format.index import Array
from shards.format.shard_set import ShardSet

PROBE = "Read the text. Total: 1,234.50 EUR"  # says how many characters a token has


def token_costs(samples: ShardSet, layout: PageLayout) -> Array:
    """Return what each sample costs the teacher, in tokens: exact for tiles, estimated for text."""
    per_character = len(layout.encoder.tokenizer(PROBE, add_special_tokens=False).input_ids) / len(PROBE)
    tiles = samples.tiles(layout.max_tiles, layout.tile_size)
    return np.asarray(layout.encoder.teacher_tokens(tiles) + samples.text() * per_character)


@dataclass(frozen=True)
class Delivery:
    """What a data worker hands over for a step.

    Attributes:
        batch: The batch, None if no sample of it could be used and no other rank waits for this one.
        skips: Samples that should be in it and could not be used.
        stop: Place in the epoch where the next global batch begins.
    """

    batch: Batch | None
    skips: list[Skip] = field(default_factory=list)
    stop: int = 0

    def pin_memory(self) -> "Delivery":
        """Return it with the batch in page-locked memory."""
        return replace(self, batch=self.batch and self.batch.pin_memory())


class BatchStream(IterableDataset[Delivery]):
    """This rank's part of each global batch, from the place where the stream is set to.

    Workers take turns, so that what they make comes in the order of the steps, however many they are.

    Args:
        samples: The set.
        layout: What the models need.
        order: The sequence of samples.
        batch_size: Samples in a batch of one rank.
        rank: Number of this rank.
        world_size: How many ranks share a global batch.
        training: Take a last step with fewer samples than ranks; in evaluation they go with the batch before.
        with_prompts: Add prompts for generation.
        token_budget: Pack the samples of a batch without padding, at most so many tokens in a pack; None to pad them.
        tile_budget: Most tiles in a pack; 0 for any number.
        jpeg_quality: Lowest quality of the JPEG marks put on tiles, None for none.
        pair: How samples without a conversation are read, None to refuse them.
        pair_seed: Draws their prompts.
    """

    def __init__(
        self,
        samples: ShardSet,
        layout: PageLayout,
        order: Order,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        training: bool = False,
        with_prompts: bool = False,
        token_budget: int | None = None,
        tile_budget: int = 0,
        jpeg_quality: int | None = None,
        pair: Pair | None = None,
        pair_seed: int = 0,
    ) -> None:
        super().__init__()
        self.samples, self.layout, self.order = samples, layout, order
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.training, self.with_prompts = training, with_prompts
        self.token_budget, self.tile_budget = token_budget, tile_budget
        self.jpeg_quality = jpeg_quality
        self.pair, self.pair_seed = pair, pair_seed
        # epoch and place, in memory that workers share: those that live on read it when a pass begins
        with torch.inference_mode(False):  # made in a test loop, such a tensor could never be changed outside of it
            self._at = torch.zeros(2, dtype=torch.int64).share_memory_()

    def seek(self, epoch: int, start: int = 0) -> None:
        """Have the next pass begin at a place of an epoch, a number of samples behind its beginning."""
        self._at[0], self._at[1] = epoch, start

    def steps(self, epoch: Epoch, start: int = 0) -> list[tuple[int, int]]:
        """Return where each global batch begins and ends; the same for all ranks."""
        size = self.batch_size * self.world_size
        bounds = [*range(start, len(epoch), size), len(epoch)]
        if not self.training and len(bounds) > 2 and bounds[-1] - bounds[-2] < self.world_size:
            del bounds[-2]  # too few for all ranks: they go with the batch before
        return [] if start >= len(epoch) else list(pairwise(bounds))

    def mine(self, epoch: Epoch, start: int, stop: int) -> Array:
        """Return the numbers of this rank's samples in the global batch between two places."""
        numbers = epoch.samples(start, stop)
        return numbers[share(self.order.costs[numbers], self.world_size)[self.rank]]

    def expected(self, epoch: int, start: int = 0) -> int:
        """Return how many samples a pass from a place to the end of an epoch gives this rank."""
        sequence, ranks = self.order.epoch(epoch), self.world_size
        return sum(
            (stop - begin) // ranks if (stop - begin) % ranks == 0 else len(self.mine(sequence, begin, stop))
            for begin, stop in self.steps(sequence, start)
        )

    def __iter__(self) -> Iterator[Delivery]:
        worker = get_worker_info()
        first, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number, start = self._at.tolist()
        epoch = self.order.epoch(number)
        for step in self.steps(epoch, start)[first::stride]:
            yield self.delivery(number, self.mine(epoch, *step), step[1])

    def delivery(self, epoch: int, numbers: Array, stop: int) -> Delivery:
        """Read and batch samples by their numbers."""
        prepared: list[Prepared] = []
        skips = []
        for number in numbers.tolist():
            raw: Mapping[str, Any] = {}
            try:
                raw = self.samples.read(number)
                prepared.append(self._prepare(raw, epoch, number))
            except SampleError as error:
                skips.append(Skip(*self.samples.name(number), error.reason, str(error), known_id(raw)))
        if prepared:
            batch = collate(prepared, self.layout, self.token_budget, self.tile_budget)
            return Delivery(batch, skips, stop=stop)
        alone = self.world_size == 1
        return Delivery(None if alone else idle_batch(self.layout, with_prompt=self.with_prompts), skips, stop=stop)

    def _prepare(self, raw: Mapping[str, Any], epoch: int, number: int) -> Prepared:
        return prepare(
            raw,
            self.layout,
            with_prompt=self.with_prompts,
            augment=self._augment(epoch, number),
            seed=self._seed(epoch, number) if self.training else None,
            pair=self.pair,
            pair_seed=self.pair_seed,
        )

    def _augment(self, epoch: int, number: int) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Return what is done to a sample's tiles: the same in every run, another in every epoch."""
        if self.jpeg_quality is None:
            return None
        rng = np.random.default_rng(self._seed(epoch, number))
        return partial(jpeg_marks, lowest=self.jpeg_quality, rng=rng)

    def _seed(self, epoch: int, number: int) -> list[int]:
        """Return the seed of a sample in an epoch: the same in every run, whatever its ranks and workers."""
        return [*self.order.seed, epoch, number]


class PageLoader(DataLoader[Batch]):
    """Gives the batches of a stream, pass by pass, and accounts for every sample.

    Args:
        stream: Makes the batches.
        ledger: Keeps the account.
        num_workers: Processes that decode and tokenize; 0 does it in this process.
        at: Epoch and place of the first pass; later passes begin at the beginning of the next epoch.
        quarantined: Samples that indexing set aside, accounted for at the beginning of an epoch.
    """

    def __init__(
        self,
        stream: BatchStream,
        ledger: Ledger,
        *,
        num_workers: int = 0,
        at: tuple[int, int] = (0, 0),
        quarantined: Sequence[Skip] = (),
    ) -> None:
        ahead: dict[str, Any] = {"prefetch_factor": 4, "persistent_workers": True} if num_workers else {}
        ahead["worker_init_fn"] = OutlivesSigterm(self)
        super().__init__(cast(Any, stream), batch_size=None, num_workers=num_workers, **ahead)
        self.stream, self.ledger, self.quarantined = stream, ledger, quarantined
        self.begin_at(*at)
        # epoch, place and counts behind each batch that was handed over
        self.given: deque[tuple[int, int, dict[str, Any]]] = deque()

    def begin_at(self, epoch: int, start: int) -> None:
        """Have the next pass begin at a place of an epoch; behind its last sample is the beginning of the next."""
        behind = start >= len(self.stream.order.epoch(epoch))
        self.next_pass = (epoch + 1, 0) if behind else (epoch, start)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        ledger, stream = self.ledger, self.stream
        if stream.training and stream.world_size == 1 and ledger.seen and not ledger.consumed:
            # otherwise a trainer would start one empty epoch after another, for ever
            raise nothing_usable(stream.samples, ledger.seen, ledger.summary())
        (epoch, start), self.next_pass = self.next_pass, (self.next_pass[0] + 1, 0)
        stream.seek(epoch, start)
        self.given.clear()
        aside = self.quarantined if start == 0 else ()
        ledger.begin(aside)
        for delivery in super().__iter__():
            assert isinstance(delivery, Delivery)
            used = len(delivery.batch) if delivery.batch is not None and not delivery.batch.idle else 0
            ledger.take(used, delivery.skips)
            if delivery.batch is not None:
                self.given.append((epoch, delivery.stop, ledger.counts()))
                yield delivery.batch
        ledger.close(stream.expected(epoch, start) + len(aside))


def known_id(raw: Mapping[str, Any]) -> str | int | None:
    """Return the id of a sample that is not used, as far as it can be read."""
    try:
        return id_of(parse(raw.get("json", b"{}")))
    except SampleError:
        return None


def nothing_usable(samples: ShardSet, seen: int, reasons: str) -> UserError:
    """Return the error of a set without any usable sample."""
    return UserError(
        f"None of the {seen} samples in {samples.source} could be used ({reasons}).\n"
        f"Give shards in the canonical form: images and a .json of conversations; {HINT}."
    )
