"""Write samples as indexed webdataset shards with a manifest; a set is whole or not there."""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import webdataset as wds

from shards.index import index_path, load_index
from shards.indexing import index_shard
from shards.manifest import MANIFEST, Progress, make_manifest, shard_row, write_manifest


class Writable(Protocol):
    """A sample that can be written."""

    def members(self, key: str) -> Mapping[str, str | bytes]:
        """Return the sample in the canonical shard form: `__key__`, images, `json`."""


Draw = Callable[[int], Writable]


def _write_shard(path: Path, draw: Draw, start: int, stop: int) -> str:
    """Write and index one shard, and return the index's hash."""
    with wds.TarWriter(str(path), mtime=0, user="fcot", group="fcot") as tar:
        for index in range(start, stop):
            tar.write(draw(index).members(f"{index:08d}"))
    return index_shard(path).save(index_path(path))


def write_set(
    folder: Path,
    draw: Draw,
    samples: int,
    *,
    shard_size: int = 1000,
    workers: int = 1,
    describe: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a set of samples to `folder` as `shard-000000.tar`, … with their indexes, and `manifest.json`.

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
            hashes = list(wrap(pool.map(_write_shard, *zip(*jobs, strict=True)), len(jobs)))
    else:
        hashes = list(wrap((_write_shard(*job) for job in jobs), len(jobs)))
    indexes = [load_index(index_path(path)) for path, *_ in jobs]
    rows = [shard_row(index, sha256) for index, sha256 in zip(indexes, hashes, strict=True)]
    manifest = make_manifest(indexes, rows, describe or {})
    write_manifest(partial / MANIFEST, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return manifest
