"""A set of shards and its manifest: which shards there are, what is in them, and the hashes of all."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.files.lock import one_writer
from shards.engines import Engine, Local
from shards.feed.decode import is_image
from shards.format.index import Index, index_path, load_index, write_whole
from shards.format.indexing import counted, index_shard, is_companion

MANIFEST = "manifest.json"
PACKED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


def shard_paths(source: Path) -> list[Path]:
    """Return the tar files of a set: a folder of them, or one file.

    Raises:
        UserError: If there is none, or some are compressed: none is left out in silence.
    """
    tars = (path for path in source.glob("*.tar") if not is_companion(path.name))
    found = sorted(tars) if source.is_dir() else [source] if source.is_file() else []
    names = [path.name for path in source.iterdir()] if source.is_dir() else []
    others = [name for name in names if PACKED.search(name) or (name[-4:].lower() == ".tar" and name[-4:] != ".tar")]
    if others:
        raise UserError(
            f"{min(others)} lies in {str(source)!r}, and only files named *.tar are read, never inflated.\n"
            f"Unpack or rename it to a .tar, or move it elsewhere ({len(others)} such files)."
        )
    sets = [name for name in ("train", "dev", "test") if (source / name).is_dir()]
    if not found and sets:
        listed = " and ".join(filter(None, [", ".join(sets[:-1]), sets[-1]]))
        raise UserError(f"{source} holds {listed}, and no shards itself.\nGive one, such as {source / sets[0]}.")
    if (
        not found
        and source.is_dir()
        and any(is_image(path.name) for path in chain(source.glob("*"), source.glob("*/*")))
    ):
        raise UserError(
            f"{source} holds images, and no tar files.\n"
            f"Write them as shards first: fcot shards import folder {source} {source}-shards"
        )
    if not found:
        raise UserError(
            f"There are no shards at {str(source)!r}.\n"
            "Build the tiny world's with `fcot shards build`, or give the folder of your tar files."
        )
    return found


def manifest_path(source: Path) -> Path:
    """Return where the manifest of a set lies: in its folder, or beside its only file."""
    return source / MANIFEST if source.is_dir() else source.with_name(f"{source.name}.{MANIFEST}")


def read_manifest(source: Path) -> dict[str, Any] | None:
    """Return a set's manifest, None without one.

    Raises:
        UserError: If it is no manifest.
    """
    path = manifest_path(source)
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_bytes())
        int(manifest["samples"])
        rows = manifest.get("shards", [])
        assert all(isinstance(row["name"], str) and "/" not in row["name"] for row in rows)
    except (ValueError, OverflowError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise UserError(
            f"{path} is no manifest of shards ({error!r}).\nDelete it, and it is made again from the shards."
        ) from error
    read: dict[str, Any] = manifest
    return read


def is_indexed(manifest: Mapping[str, Any] | None) -> bool:
    """Return whether a manifest names the indexes of its shards."""
    rows = (manifest or {}).get("shards", [])
    return bool(rows) and all("index_sha256" in row for row in rows)


def set_size(source: Path) -> int | None:
    """Return how many samples a set's manifest counts, None without a manifest."""
    manifest = read_manifest(source)
    return None if manifest is None else int(manifest["samples"])


def set_fingerprint(source: Path) -> str:
    """Return the sha256 of a set's manifest, which holds its shards' hashes; without one, of names and sizes."""
    manifest = read_manifest(source)
    if manifest is not None:
        return manifest_hash(manifest)
    return hashlib.sha256(str([(p.name, p.stat().st_size) for p in shard_paths(source)]).encode()).hexdigest()


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest's content, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def shard_row(index: Index, index_sha256: str) -> dict[str, Any]:
    """Return a shard's row in the manifest."""
    quarantined = index.quarantined()
    return {
        "name": index.name,
        "samples": len(index),
        "bytes": index.bytes,
        "sha256": index.sha256,
        "index_sha256": index_sha256,
        "tasks": index.count("task", index.tasks),
        **({"quarantined": quarantined} if quarantined else {}),
    }


def make_manifest(
    indexes: Sequence[Index], rows: Sequence[Mapping[str, Any]], describe: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a set: its description, then its counts."""
    quarantined: Counter[str] = Counter()
    for index in indexes:
        quarantined.update(index.quarantined())
    own = ("samples", "tasks", "sources", "quarantined", "shards")
    return {
        "samples": sum(map(len, indexes)),
        **{name: value for name, value in describe.items() if name not in own},
        "tasks": counted(indexes, "task"),
        "sources": counted(indexes, "source"),
        **({"quarantined": dict(sorted(quarantined.items()))} if quarantined else {}),
        "shards": list(rows),
    }


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    write_whole(path, (json.dumps(manifest, indent=1) + "\n").encode())


def index_set(
    source: Path, *, again: bool = False, engine: Engine | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Index every shard of a set and write its manifest; what an interrupted call has done is kept.

    Of several processes that index a set at once, one does and the others wait. The same shards always give the same
    index and manifest, byte for byte, so nothing a reader has open becomes wrong when they are written again.

    Args:
        source: Folder of shards, or one tar file.
        again: Index shards again that have an index, because they were changed on purpose.
        engine: What reads the shards (default: this process, one after the other).
        progress: Wraps the iteration over finished shards, given how many there are.

    Returns:
        The manifest.

    Raises:
        UserError: If there is no shard, or an index cannot be written.
    """
    try:
        with one_writer(manifest_path(source).with_suffix(".lock"), f"the index of {source}"):
            return _index_all(source, again, engine or Local(workers=1), progress or (lambda rows, _: rows))
    except OSError as error:
        raise UserError(
            f"The shards at {str(source)!r} cannot be indexed ({error}).\n"
            "Make their folder readable and writable: the index of each shard lies beside it."
        ) from error


def _index_all(source: Path, again: bool, engine: Engine, wrap: Progress) -> dict[str, Any]:
    paths = shard_paths(source)
    manifest = read_manifest(source) or {}
    known = {} if again else {row["name"]: row for row in manifest.get("shards", [])}
    jobs = [(path, known.get(path.name, {}).get("samples"), again) for path in paths]
    token = manifest_path(source).with_suffix(".driver")
    hashes = list(wrap(engine.map(_index_one, jobs, token=token), len(jobs)))
    indexes = [load_index(index_path(path)) for path in paths]
    rows = [shard_row(index, sha256) for index, sha256 in zip(indexes, hashes, strict=True)]
    made = make_manifest(indexes, rows, manifest)
    write_manifest(manifest_path(source), made)
    return made


def _index_one(path: Path, samples: int | None, again: bool) -> str:
    """Make the index of a shard unless there is one younger than it, and return the index's hash."""
    target = index_path(path)
    if not again and target.is_file() and target.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        try:
            if load_index(target).bytes == path.stat().st_size:
                return hashlib.sha256(target.read_bytes()).hexdigest()
        except UserError:
            pass  # half of an index, or an older format: make it again
    return index_shard(path, samples=samples).save(target)
