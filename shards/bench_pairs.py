"""Plain image-text pairs beside the same samples as conversations, streamed in turn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import webdataset as wds

from fcot.batch import PageLayout
from fcot.bench.measure import Gain, Timing, timed_in_turn
from fcot.internvl.checkpoint import ModelFolder
from shards.feed.datamodule import Shards
from shards.feed.plain_pairs import Pair
from shards.format.manifest import index_set
from shards.render.recipes import Draw

PROMPT = "Read the text."
DIFFERENT, SHARD = 64, 1000  # pages that are drawn, samples in a shard
CPU = torch.device("cpu")


def streamed(folder: Path, samples: int, repeats: int) -> dict[str, Any]:
    """Time batches of plain pairs and of conversations with the same pages and texts, as a training reads them.

    Args:
        folder: Where the two sets are written.
        samples: How many each has.
        repeats: How often each is read.
    """
    names = ("pairs", "conversations")
    write(folder, samples)
    model = ModelFolder(Path("fcot/tiny/teacher"))
    layout = PageLayout(model.encoder(), model.tile_size, model.max_tiles, {"student": 16})

    def read(name: str) -> None:
        data = Shards(folder / name, batch_size=32, num_workers=0, pair=Pair(PROMPT))
        count = sum(len(batch) for batch in data.loader("train", training=True, layout=layout))
        assert count == samples, count

    ways: list[Callable[[], None]] = [lambda: read("pairs"), lambda: read("conversations")]
    times = timed_in_turn(ways, CPU, repeats)
    timings = {name: Timing.of(each) for name, each in zip(names, times, strict=True)}
    return {
        "samples": samples,
        **{
            name: {"seconds": timing.json(), "samples_per_second": samples / timing.median}
            for name, timing in timings.items()
        },
        "rate": Gain.over(times[1], times[0]).json(),  # of pairs, as a multiple of that of conversations
    }


def write(folder: Path, samples: int) -> None:
    """Write and index the two sets, as they would be downloaded and as they would be imported."""
    draw = Draw("letters", "train", 0, DIFFERENT)
    drawn = [draw(number).members("") for number in range(DIFFERENT)]
    pages = [(members["png"], str(json.loads(members["json"])["conversations"][1]["value"])) for members in drawn]
    for name in ("pairs", "conversations"):
        source = folder / name / "train"
        source.mkdir(parents=True)
        with wds.ShardWriter(str(source / "%06d.tar"), maxcount=SHARD, verbose=0, mtime=0) as shards:
            for number in range(samples):
                page, text = pages[number % DIFFERENT]
                turns = [{"from": "human", "value": f"<image>\n{PROMPT}"}, {"from": "gpt", "value": text}]
                said = {"txt": text} if name == "pairs" else {"json": json.dumps({"conversations": turns}).encode()}
                shards.write({"__key__": f"{number:08d}", "png": page, **said})
        index_set(source)


def noted(found: dict[str, Any]) -> str:
    """Return a sentence about what was measured."""
    plain, spoken = (f"{found[name]['samples_per_second']:,.0f}" for name in ("pairs", "conversations"))
    rate = f"{Gain(**found['rate'])} times the rate"
    return f"{found['samples']:,} plain pairs at {plain} samples/s, as conversations at {spoken}: {rate}"
