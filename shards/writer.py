"""Write samples as indexed webdataset shards with a manifest; a set is whole or not there."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import webdataset as wds

from fcot.internvl.tokens import SampleError
from shards.index import index_path, load_index
from shards.indexing import index_shard
from shards.manifest import MANIFEST, Progress, make_manifest, shard_row, write_manifest


class Writable(Protocol):
    """A sample that can be written."""

    def members(self, key: str) -> Mapping[str, str | bytes]:
        """Return the sample in the canonical shard form: `__key__`, images, `json`."""


Draw = Callable[[int], Writable]
JOB, SKIPPED = "job.json", "skipped.jsonl"


def _write_shard(path: Path, draw: Draw, start: int, stop: int) -> str:
    """Write and index one shard unless an earlier call did, and return the index's hash."""
    target = index_path(path)
    if target.is_file():  # written last: the shard is whole
        return hashlib.sha256(target.read_bytes()).hexdigest()
    with wds.TarWriter(str(path), mtime=0, user="fcot", group="fcot") as tar, _skipped(path).open("w") as skipped:
        for index in range(start, stop):
            try:
                members = draw(index).members(f"{index:08d}")
            except SampleError as error:
                line = {"key": f"{index:08d}", "reason": error.reason, "detail": str(error)}
                skipped.write(json.dumps(line) + "\n")
                continue
            tar.write(members)
    return index_shard(path).save(target)


def _skipped(shard: Path) -> Path:
    return shard.with_suffix(".skipped.jsonl")


def write_set(
    folder: Path,
    draw: Draw,
    samples: int,
    *,
    shard_size: int = 1000,
    workers: int = 1,
    describe: dict[str, Any] | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Write a set of samples to `folder` as `shard-000000.tar`, … with their indexes, and `manifest.json`.

    The set is written beside its place and renamed at the end, so an interrupted build leaves no half set. What
    cannot be used is left out, named in `skipped.jsonl` and counted by reason in the manifest.

    Args:
        folder: The new set; replaced if it exists.
        draw: Gives the sample of an index, or raises a SampleError; must be picklable when `workers` > 1.
        samples: How many.
        shard_size: Samples in a shard.
        workers: Processes that draw.
        describe: More to say in the manifest: recipe, seed, split.
        progress: Wraps the iteration over finished shards, given how many there are.
        resume: Keep the shards that an interrupted call with the same `describe` finished.

    Returns:
        The manifest.
    """
    partial = folder.with_name(folder.name + ".partial")
    job = json.dumps([samples, shard_size, describe], default=str)
    if not (resume and (partial / JOB).is_file() and (partial / JOB).read_text() == job):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / JOB).write_text(job)
    jobs = [
        (partial / f"shard-{number:06d}.tar", draw, start, min(start + shard_size, samples))
        for number, start in enumerate(range(0, samples, shard_size))
    ]
    wrap = progress or (lambda rows, _: rows)
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            hashes = list(wrap(pool.map(_write_shard, *zip(*jobs, strict=True)), len(jobs)))
    else:
        hashes = list(wrap((_write_shard(*each) for each in jobs), len(jobs)))
    indexes = [load_index(index_path(path)) for path, *_ in jobs]
    rows = [shard_row(index, sha256) for index, sha256 in zip(indexes, hashes, strict=True)]
    manifest = make_manifest(indexes, rows, {**(describe or {}), **_gather_skipped(partial)})
    (partial / JOB).unlink()
    write_manifest(partial / MANIFEST, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return manifest


def _gather_skipped(folder: Path) -> dict[str, dict[str, int]]:
    """Put what the shards left out into one file, and return it counted by reason; {} if nothing was."""
    paths = sorted(folder.glob("*.skipped.jsonl"))
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    for path in paths:
        path.unlink()
    if not lines:
        return {}
    (folder / SKIPPED).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"skipped": dict(sorted(Counter(json.loads(line)["reason"] for line in lines).items()))}
