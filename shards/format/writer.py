"""Write samples as indexed webdataset shards with a manifest; a set is whole or not there."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import webdataset as wds

from fcot.errors import SampleError, UserError
from fcot.files.lock import one_writer
from shards.engines import Engine, Local
from shards.format.index import index_path, load_index, write_whole
from shards.format.indexing import index_shard
from shards.format.manifest import MANIFEST, Progress, make_manifest, read_manifest, shard_row, write_manifest


class Writable(Protocol):
    """A sample that can be written; what its `notes` name, if it has any, is counted in the manifest."""

    def members(self, key: str) -> Mapping[str, str | bytes]:
        """Return the sample in the canonical shard form: `__key__`, images, `json`."""


Draw = Callable[[int], Writable]
JOB, SKIPPED, NOTES, PARTIAL = "job.json", "skipped.jsonl", "notes.json", ".partial"
DRIVER = "driver"  # the token of the command that fills a folder


@dataclass(frozen=True)
class ShardWriter:
    """The job of a shard; picklable if its draw is.

    Attributes:
        draw: Gives the sample of an index, or raises a SampleError.
    """

    draw: Draw

    def __call__(self, path: Path, start: int, stop: int) -> str:
        """Write and index one shard unless an earlier call did, and return the index's hash."""
        target = index_path(path)
        if target.is_file():  # written last: the shard is whole
            return hashlib.sha256(target.read_bytes()).hexdigest()
        skipped = []
        notes: dict[str, Counter[str]] = {}
        # under a unique name: a worker of a killed call may still be writing the same shard
        partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}{PARTIAL}")
        with wds.TarWriter(str(partial), mtime=0, user="fcot", group="fcot") as tar:
            for index in range(start, stop):
                try:
                    sample = self.draw(index)
                    members = sample.members(f"{index:08d}")
                except SampleError as error:
                    line: dict[str, str | int] = {"key": f"{index:08d}", "reason": error.reason, "detail": str(error)}
                    line |= {} if error.id is None else {"id": error.id}
                    skipped.append(json.dumps(line) + "\n")
                    continue
                tar.write(members)
                for kind, names in getattr(sample, "notes", {}).items():
                    notes.setdefault(kind, Counter()).update(names)
        found = replace(index_shard(partial), name=path.name)
        write_whole(path.with_suffix(f".{SKIPPED}"), "".join(skipped).encode())
        write_whole(path.with_suffix(f".{NOTES}"), json.dumps(notes).encode())
        partial.replace(path)
        return found.save(target)


def write_set(
    folder: Path,
    draw: Draw,
    samples: int,
    *,
    shard_size: int = 1000,
    engine: Engine | None = None,
    reads: Sequence[Path] = (),
    describe: dict[str, Any] | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    keep: bool = False,
    replaces: Callable[[Mapping[str, Any]], bool] | None = None,
) -> dict[str, Any]:
    """Write a set of samples to `folder` as `shard-000000.tar`, … with their indexes, and `manifest.json`.

    The set is written beside its place and renamed at the end, so an interrupted build leaves no half set. What
    cannot be used is left out, named in `skipped.jsonl` and counted by reason in the manifest. Of several processes
    that write the same set at once, one does; the others wait and take what it wrote.

    Args:
        folder: The new set.
        draw: Gives the sample of an index, or raises a SampleError; must be picklable for an engine.
        samples: How many.
        shard_size: Samples in a shard.
        engine: What writes the shards (default: this process, one after the other).
        reads: Files or folders that `draw` needs, which each machine must have.
        describe: More to say in the manifest: recipe, seed, split.
        progress: Wraps the iteration over finished shards, given how many there are.
        resume: Keep the shards that an interrupted call with the same `describe` finished.
        keep: Leave an existing set unchanged.
        replaces: Says of the manifest of a set that is there whether the new one may replace it (default: any).

    Returns:
        The manifest.

    Raises:
        UserError: If what is at `folder` is no set, or one that may not be replaced, or the disk is full.
    """
    if folder.exists() and not is_set(folder):
        raise UserError(f"{folder} exists and is no set of shards.\nGive a folder that is new, empty, or such a set.")
    told = json.loads(json.dumps(describe or {}, default=str))
    try:
        with one_writer(folder.with_name(f"{folder.name}.lock"), str(folder)) as waited:
            found = read_manifest(folder) if keep or waited or replaces else None
            if found is not None and (keep or (waited and _is_of(found, samples, shard_size, told))):
                return found
            if found is not None and found["samples"] and replaces and not replaces(found):
                raise _already_there(folder, found)
            partial = folder.with_name(folder.name + PARTIAL)
            _begin(partial, json.dumps([samples, shard_size, told]), resume)
            jobs = _jobs(partial, samples, shard_size)
            hashes = (engine or Local(workers=1)).map(ShardWriter(draw), jobs, token=partial / DRIVER, reads=reads)
            shards = [path for path, *_ in jobs]
            manifest = _complete(partial, shards, list(progress(hashes, len(jobs)) if progress else hashes), told)
            _publish(partial, shards, folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}).\nMake room or choose another folder; no half set was left there."
        ) from error
    return manifest


def is_set(folder: Path) -> bool:
    """Return whether a folder is a set of shards or empty, and so may be replaced."""
    return folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))


def _already_there(folder: Path, manifest: Mapping[str, Any]) -> UserError:
    """Return the error that names the set that a new one would replace."""
    origin = f"drawn by the recipe {manifest['recipe']}" if "recipe" in manifest else "written elsewhere"
    if "imported_from" in manifest:
        origin = f"imported from {manifest['imported_from']} ({manifest.get('importer')})"
    return UserError(
        f"{folder} already holds {manifest['samples']} samples, {origin}.\n"
        "Give another folder, or add --overwrite true to replace them."
    )


def _is_of(manifest: Mapping[str, Any], samples: int, shard_size: int, told: Mapping[str, Any]) -> bool:
    """Return whether a set is what a call with these arguments writes."""
    counted = manifest["samples"] + sum(manifest.get("skipped", {}).values())
    same = (counted, len(manifest["shards"])) == (samples, -(-samples // shard_size))
    return same and told.items() <= manifest.items()


def _begin(partial: Path, job: str, resume: bool) -> None:
    """Make the folder that a set is written in; `resume` keeps one of the same job."""
    if not (resume and (partial / JOB).is_file() and (partial / JOB).read_text(encoding="utf-8") == job):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / JOB).write_text(job, encoding="utf-8")


def _jobs(partial: Path, samples: int, shard_size: int) -> list[tuple[Path, int, int]]:
    """Return the arguments of a `ShardWriter` for each shard."""
    return [
        (partial / f"shard-{number:06d}.tar", start, min(start + shard_size, samples))
        for number, start in enumerate(range(0, samples, shard_size))
    ]


def _complete(partial: Path, shards: Sequence[Path], hashes: Sequence[str], told: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of a set whose shards are all there, given the hashes of their indexes."""
    indexes = [load_index(index_path(path)) for path in shards]
    rows = [shard_row(index, sha256) for index, sha256 in zip(indexes, hashes, strict=True)]
    manifest = make_manifest(indexes, rows, {**told, **_gather_skipped(partial, shards), **_gather_notes(shards)})
    write_manifest(partial / MANIFEST, manifest)
    return manifest


def _publish(partial: Path, shards: Iterable[Path], folder: Path) -> None:
    """Put a set in its place; the one before makes way in one step."""
    before = folder.with_name(f"{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    (partial / JOB).unlink()  # first: without the files removed below, no later call could continue here
    for leftover in (*partial.glob(f"*{PARTIAL}"), *_beside(shards, SKIPPED), *_beside(shards, NOTES)):
        leftover.unlink(missing_ok=True)
    if folder.exists():
        folder.rename(before)
    partial.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def _beside(shards: Iterable[Path], suffix: str) -> list[Path]:
    """Return what the job of each shard left beside it.

    By name, not by listing: NFS may list a folder without what other machines have just written there.
    """
    return [path.with_suffix(f".{suffix}") for path in shards]


def _gather_notes(shards: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Return what the samples note, counted: how many images were re-encoded, of which format, and the like."""
    total: dict[str, Counter[str]] = {}
    for path in _beside(shards, NOTES):
        for kind, names in json.loads(path.read_bytes()).items():
            total.setdefault(kind, Counter()).update(names)
    return {kind: dict(sorted(names.items())) for kind, names in total.items() if names}


def _gather_skipped(folder: Path, shards: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Put what the shards left out into one file, and return it counted by reason; {} if nothing was."""
    lines = [line for path in _beside(shards, SKIPPED) for line in path.read_text(encoding="utf-8").splitlines()]
    if not lines:
        return {}
    write_whole(folder / SKIPPED, ("\n".join(lines) + "\n").encode())
    return {"skipped": dict(sorted(Counter(json.loads(line)["reason"] for line in lines).items()))}
