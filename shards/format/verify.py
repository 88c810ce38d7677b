"""Verify every byte of a set against its indexes."""

import hashlib
import json
import platform
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fcot.errors import SampleError, UserError
from shards.engines import Engine, Local
from shards.feed.ledger import Skip
from shards.format.index import write_whole
from shards.format.manifest import Progress
from shards.format.shard_set import ShardSet

STAMPS = "verified.json"


def verify_set(
    samples: ShardSet, *, again: bool = True, engine: Engine | None = None, progress: Progress | None = None
) -> list[Skip]:
    """Compare each shard with its hash, and where they differ each sample with its checksums.

    Shards that were found whole are noted in `verified.json` with their size and time of change, so that an
    interrupted call continues where it stopped.

    Args:
        samples: The set.
        again: Also verify shards that were verified before and have not changed since.
        engine: What reads the shards (default: this process, one after the other).
        progress: Wraps the iteration over shards, given how many there are.

    Returns:
        What is wrong, quarantined samples included; empty if nothing is.

    Raises:
        UserError: If a worker does not see the same file as this machine.
    """
    stamps = {} if again else _stamps(samples.source)
    found = [Skip(*row) for row in samples.quarantined()]
    now = [_stamp(path, index.sha256) for path, index in zip(samples.paths, samples.indexes, strict=True)]
    unread = [
        stamp is not None and stamps.get(path.name) != stamp for path, stamp in zip(samples.paths, now, strict=True)
    ]
    jobs = [(samples.paths[place].absolute(), now[place]) for place, is_new in enumerate(unread) if is_new]
    hashes = (engine or Local(workers=1)).map(_sha256, jobs)
    places: Iterable[int] = range(len(now))
    for place in progress(places, len(now)) if progress else places:
        path, index, stamp = samples.paths[place], samples.indexes[place], now[place]
        if stamp is not None and not unread[place]:
            continue
        if stamp is not None and next(hashes) == index.sha256:
            stamps[path.name] = stamp
            _write_stamps(samples.source, stamps)
            continue
        damaged = _damaged(samples, place)
        what = "is gone" if stamp is None else "has other bytes than were indexed"
        lost = f"{len(damaged)} of its {len(index)} samples are unusable"
        found += [Skip(f"{path.parent.name}/{path.name}", "", "changed_shard", f"{path} {what}; {lost}"), *damaged]
    return found


def require_whole(samples: ShardSet) -> None:
    """Refuse a set in which anything is wrong.

    Raises:
        UserError: Names the first fault and counts the others.
    """
    found = verify_set(samples, again=False)
    if found:
        first, more = found[0], f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise UserError(
            f"{first.shard} {first.key!r}: {first.reason}, {first.detail}{more}.\n"
            f"See fcot shards verify {samples.source}; mend the set, or run with --data.strict false."
        )


def _damaged(samples: ShardSet, place: int) -> list[Skip]:
    skips = []
    for row in samples.indexes[place].used(samples.pairs).nonzero()[0].tolist():
        number = int(samples.first[place]) + row
        try:
            samples.read(number)
        except SampleError as error:
            skips.append(Skip(*samples.name(number), error.reason, str(error)))
    return skips


def _sha256(path: Path, stamp: list[int | str]) -> str:
    """Return the hash of a file, if its size and time of change are those of a stamp.

    Raises:
        UserError: If they are not.
    """
    found = _stamp(path, "")
    if found is None or found[:2] != stamp[:2]:
        raise UserError(
            f"{platform.node()} does not see {path} as the machine of the command does, or it has just been changed.\n"
            "Put the set on a file system that all machines have at the same path, and let nothing write there."
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path, sha256: str) -> list[int | str] | None:
    """Return a file's size and time of change, by which changes are noticed; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ino, sha256]


def _stamps_path(source: Path) -> Path:
    return source / STAMPS if source.is_dir() else source.with_name(f"{source.name}.{STAMPS}")


def _stamps(source: Path) -> dict[str, list[int | str] | None]:
    try:
        found = json.loads(_stamps_path(source).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_stamps(source: Path, stamps: dict[str, list[int | str] | None]) -> None:
    with suppress(OSError):  # a set on a read-only disk is verified each time
        write_whole(_stamps_path(source), (json.dumps(stamps) + "\n").encode())
