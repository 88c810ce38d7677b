"""The order of samples: a pure function of set, seed, epoch and place, whoever reads and however many they are."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.format.index import Array

WINDOW = 512  # samples sorted by cost together, so that batches hold samples of like length


@dataclass(frozen=True)
class Order:
    """The sequence of samples of every epoch.

    An epoch is a permutation, cut into windows. A window is sorted by cost and then ordered by a tree of coin flips:
    halves change places or not, then the halves of each half, and so on. So neighbours cost alike however many
    of them make a batch, and the sequence does not depend on that number: the same samples are in the first 64 places
    whether they are read as one batch of 64, 8 of 8 on one device, or 8 on each of 8.

    Attributes:
        costs: Cost of each sample of the set, in tokens.
        usable: Numbers of the samples to read, in the order of the set.
        seed: Seed and what else the order depends on, such as the hash of the manifest.
        shuffled: Whether the order is random; otherwise windows are only sorted.
        ordered: Keep windows in the order of the set, shuffle within them only: a curriculum.
        window: Samples in a window.
        counts: How often each of `usable` is read in an epoch in the mean (default: once each).
        groups: What each of `usable` belongs to: fractions of counts are kept within a group.
    """

    costs: Array
    usable: Array
    seed: Sequence[int] = (0,)
    shuffled: bool = True
    ordered: bool = False
    window: int = WINDOW
    counts: Array | None = None
    groups: Array | None = None

    def fingerprint(self) -> str:
        """Return a hash of all that the sequences depend on."""
        said = [[int(word) for word in self.seed], self.shuffled, self.ordered, self.window]
        digest = hashlib.sha256(json.dumps(said).encode())
        for column in (self.costs, self.usable, self.counts, self.groups):
            digest.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def epoch(self, epoch: int) -> "Epoch":
        """Return the sequence of an epoch."""
        rng = np.random.default_rng([*self.seed, epoch])
        drawn = self.usable
        if self.counts is not None and self.groups is not None:
            drawn = self.usable[np.repeat(np.arange(len(drawn)), occurrences(self.counts, self.groups, rng))]
        if self.shuffled and not self.ordered:
            drawn = rng.permutation(drawn)
        return Epoch(self, epoch, drawn)


@dataclass(frozen=True)
class Epoch:
    """The sequence of one epoch.

    Attributes:
        order: What it is an epoch of.
        number: Which epoch.
        drawn: Numbers of its samples, window by window.
    """

    order: Order
    number: int
    drawn: Array

    def __len__(self) -> int:
        return len(self.drawn)

    def samples(self, start: int, stop: int) -> Array:
        """Return the numbers of the samples at places `start` to `stop`; only their windows are computed."""
        size, stop = self.order.window, min(stop, len(self))
        if start >= stop:
            return self.drawn[:0]
        first = start // size
        found = np.concatenate([self._window(number) for number in range(first, (stop - 1) // size + 1)])
        return found[start - first * size : stop - first * size]

    def _window(self, number: int) -> Array:
        samples = self.drawn[number * self.order.window : (number + 1) * self.order.window]
        samples = samples[np.argsort(self.order.costs[samples], kind="stable")]
        if not self.order.shuffled:
            return samples
        rng = np.random.default_rng([*self.order.seed, self.number, number])
        return samples[flipped(len(samples), rng)]


def flipped(size: int, rng: np.random.Generator) -> Array:
    """Return places 0 to `size` - 1 in an order that changes halves, quarters, … at random, and keeps neighbours."""
    block = 1 << max(0, size - 1).bit_length()
    places = np.arange(block)
    while block > 1:
        halves = places.reshape(-1, 2, block // 2)
        flips = rng.integers(0, 2, len(halves), dtype=bool)[:, None, None]
        places = np.where(flips, halves[:, ::-1], halves).reshape(-1)
        block //= 2
    return places[places < size]


def occurrences(counts: Array, groups: Array, rng: np.random.Generator) -> Array:
    """Return how often each sample is read this epoch.

    A sample with count 2.3 is read twice, and exactly 0.3 of its group, chosen at random, once more.

    Args:
        counts: Mean number of readings `[samples]`, the same within a group.
        groups: Group of each sample `[samples]`.
        rng: Chooses which are read once more.
    """
    whole = np.floor(counts).astype(np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        extra = round(float(np.sum(counts[members] - whole[members])))
        whole[rng.permutation(members)[:extra]] += 1
    return whole


def share(costs: Array, ranks: int) -> list[Array]:
    """Share the samples of a global batch among ranks, in similar number and at similar cost.

    The dearest sample goes first, each to the rank of the least cost that has a place left.

    Args:
        costs: Cost of each sample `[samples]`.
        ranks: How many share.

    Returns:
        Places in the batch for each rank, in the order of the batch; numbers differ by one at most.
    """
    few, more = divmod(len(costs), ranks)
    spent = [0.0] * ranks
    taken: list[list[int]] = [[] for _ in range(ranks)]
    for place in np.argsort(-costs, kind="stable").tolist():
        free = [rank for rank in range(ranks) if len(taken[rank]) < few + (more > 0)]
        rank = min(free, key=lambda rank: spent[rank])
        more -= len(taken[rank]) == few
        taken[rank].append(place)
        spent[rank] += float(costs[place])
    return [np.array(sorted(places), dtype=np.int64) for places in taken]
