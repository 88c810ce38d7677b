"""Write samples as webdataset shards with a manifest; a set is whole or not there."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import webdataset as wds

from shards.render.sample import Sample

MANIFEST = "manifest.json"

Draw = Callable[[int], Sample]


def _write_shard(path: Path, draw: Draw, start: int, stop: int) -> dict[str, Any]:
    tasks: Counter[str] = Counter()
    with wds.TarWriter(str(path), mtime=0, user="fcot", group="fcot") as tar:
        for index in range(start, stop):
            sample = draw(index)
            tar.write(sample.members(f"{index:08d}"))
            tasks[sample.task] += 1
    data = path.read_bytes()
    return {
        "name": path.name,
        "samples": stop - start,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "tasks": dict(sorted(tasks.items())),
    }


def write_set(
    folder: Path,
    draw: Draw,
    samples: int,
    *,
    shard_size: int = 1000,
    workers: int = 1,
    describe: dict[str, Any] | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> dict[str, Any]:
    """Write a set of samples to `folder` as `shard-000000.tar`, … and `manifest.json`.

    The set is written beside its place and renamed at the end, so an interrupted build leaves no half set.

    Args:
        folder: The new set; replaced if it exists.
        draw: Gives the sample of an index; must be picklable when `workers` > 1.
        samples: How many.
        shard_size: Samples in a shard.
        workers: Processes that draw.
        describe: More to say in the manifest: recipe, seed, split.
        progress: Wraps the iteration over finished shards, given how many there are.

    Returns:
        The manifest.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    starts = range(0, samples, shard_size)
    jobs = [
        (partial / f"shard-{number:06d}.tar", draw, start, min(start + shard_size, samples))
        for number, start in enumerate(starts)
    ]
    wrap = progress or (lambda rows, _: rows)
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            rows = list(wrap(pool.map(_write_shard, *zip(*jobs, strict=True)), len(jobs)))
    else:
        rows = list(wrap((_write_shard(*job) for job in jobs), len(jobs)))
    tasks: Counter[str] = Counter()
    for row in rows:
        tasks.update(row["tasks"])
    manifest = {
        "samples": samples,
        **(describe or {}),
        "tasks": dict(sorted(tasks.items())),
        "shards": rows,
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return manifest
