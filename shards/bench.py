"""The verb `bench data`: verified, shuffled reading beside plain webdataset, and resuming in the middle."""

import json as json_lib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds

from fcot.batch import PageLayout
from fcot.bench.measure import Gain, Timing, timed_in_turn
from fcot.bench.output import Table, publish
from fcot.internvl.checkpoint import ModelFolder
from shards.bench_pairs import noted, streamed
from shards.build import build_set
from shards.feed.datamodule import Shards
from shards.feed.order import Order
from shards.format.manifest import index_set
from shards.format.shard_set import ShardSet

FAR, FAR_SHARD = 100_000, 4_000
CPU = torch.device("cpu")


def data(
    shards: Path | None = None,
    samples: int = 2000,
    repeats: int = 5,
    resume: bool = True,
    pairs: int = 0,
    recipe: str = "questions",
    json: str | None = None,
) -> None:
    """Time reading shards verified and shuffled beside plain webdataset, and starting at sample 100,000.

    Both give every sample of the set as bytes, in one process; nothing is decoded. Webdataset shuffles in a buffer of
    1000 and checks nothing; here samples come in random order of the whole set, every byte compared with the index.

    Args:
        shards: Folder of shards (default: pages are drawn for it).
        samples: Pages to draw.
        repeats: How often each is timed.
        resume: Time the resume too; a set of 120,000 short texts is written for it.
        pairs: Stream so many plain pairs too, in turn with the same samples as conversations; 0 leaves it out.
        recipe: Of the pages that are drawn; letters needs no extra.
        json: File for the results, - for the standard output.
    """
    with scratch() as folder:
        source = shards or drawn(folder, samples, recipe)
        ways: list[Callable[[], int]] = [lambda: ours(source), lambda: plain(source)]
        counts = [way() for way in ways]
        times = timed_in_turn(ways, CPU, repeats)
        verified, usual = map(Timing.of, times)
        gain = Gain.over([spent / counts[1] for spent in times[1]], [spent / counts[0] for spent in times[0]])
        found: dict[str, Any] = {
            "bench": "data",
            "device": "cpu",
            "samples": counts[0],
            "bytes": sum(path.stat().st_size for path in source.glob("*.tar")),
            "verified": {"seconds": verified.json(), "samples_per_second": counts[0] / verified.median},
            "webdataset": {"seconds": usual.json(), "samples_per_second": counts[1] / usual.median},
            "times_as_fast": gain.json(),
            **({"resume": resumed(folder, repeats)} if resume else {}),
            **({"pairs": streamed(folder, pairs, repeats)} if pairs else {}),
        }
    rows = [
        [name, str(Timing(**found[kind]["seconds"])), f"{found[kind]['samples_per_second']:,.0f}"]
        for kind, name in (("verified", "verified, shuffled over the set"), ("webdataset", "webdataset, shuffle(1000)"))
    ]
    notes = [f"{gain} times as fast as plain webdataset"]
    if resume:
        notes.append(
            f"first batch from sample {FAR:,} of {found['resume']['samples']:,}, set opened and ordered anew: "
            f"{Timing(**found['resume']['seconds'])}, median of {repeats}"
        )
    if pairs:
        notes.append(noted(found["pairs"]))
    columns = ("way", f"time, median of {repeats}", "samples/s")
    publish(found, [Table(f"{counts[0]} samples as bytes", columns, rows)], json, notes)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for as long as it is needed."""
    folder = Path(tempfile.mkdtemp(prefix="fcot-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drawn(folder: Path, samples: int, recipe: str = "questions") -> Path:
    """Draw pages of the tiny world."""
    build_set(folder, recipe, "train", samples, shard_size=500)
    return folder / "train"


def ours(source: Path) -> int:
    """Read a set verified, in the order of an epoch, and return how many samples there were."""
    samples = ShardSet(source)
    order = Order(np.asarray(samples.text()), samples.usable(), seed=(0,))
    epoch = order.epoch(0)
    count = 0
    for start in range(0, len(epoch), 64):
        for number in epoch.samples(start, start + 64).tolist():
            samples.read(number)
            count += 1
    return count


def plain(source: Path) -> int:
    """Read a set by webdataset's own pipeline, and return how many samples there were."""
    urls = [str(path) for path in sorted(source.glob("*.tar"))]
    return sum(1 for _ in wds.WebDataset(urls, shardshuffle=False).shuffle(1000))


def resumed(folder: Path, repeats: int) -> dict[str, Any]:
    """Time from nothing to the first batch at sample 100,000 of a set, the files read before."""
    source = many(folder / "many")
    encoder = ModelFolder(Path("fcot/tiny/teacher")).encoder()
    layout = PageLayout(encoder, 448, 12, {"student": 256})

    def first() -> tuple[Shards, int]:
        sets = Shards(source.parent, batch_size=32, num_workers=0)
        return sets, len(next(iter(sets.loader(source.name, training=True, layout=layout, at=(0, FAR)))))

    (times,) = timed_in_turn([first], CPU, repeats)
    sets, batch = first()
    return {
        "seconds": Timing.of(times).json(),
        "samples": len(sets.samples(source.name)),
        "at": FAR,
        "batch": batch,
    }


def many(folder: Path) -> Path:
    """Write more than 100,000 short texts: one shard, and copies of it."""
    source = folder / "train"
    source.mkdir(parents=True)
    turns = [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "4"}]
    first = source / "shard-000000.tar"
    with wds.TarWriter(str(first), mtime=0) as tar:
        for number in range(FAR_SHARD):
            tar.write({"__key__": f"{number:08d}", "json": json_lib.dumps({"conversations": turns}).encode()})
    for number in range(1, 120_000 // FAR_SHARD):
        shutil.copy(first, source / f"shard-{number:06d}.tar")
    index_set(source)
    return source
