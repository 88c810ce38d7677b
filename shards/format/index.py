"""The index of a shard: where each member lies and what it holds, so that reading can be checked and start anywhere."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fcot.errors import UserError

SUFFIX = ".index.safetensors"
FORMAT = "1"
USABLE = -1  # in `fault`
WITHOUT_CONVERSATION = ("missing_json", "bad_json")  # faults of a sample that may be a plain image-text pair

Array = NDArray[Any]


class Keys(Sequence[str]):
    """The keys of a shard's samples, decoded when they are asked for: most runs need a few out of millions.

    Args:
        text: All keys in a row.
        ends: Where each ends in it `[samples]`.
    """

    def __init__(self, text: bytes, ends: Array) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, keys: Sequence[str]) -> "Keys":
        """Return keys in this form."""
        encoded = [key.encode() for key in keys]
        return cls(b"".join(encoded), np.cumsum([len(key) for key in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return a key, or several."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        at = range(len(self))[place]
        return self.text[int(self.ends[at - 1]) if at else 0 : int(self.ends[at])].decode()


@dataclass(frozen=True)
class Index:
    """What is known of one shard.

    Members stand in the order of their samples. A sample that cannot be used has a row too, and so has a lost stretch
    of the file: nothing is left out.

    Attributes:
        name: File name of the shard.
        bytes: Its size.
        sha256: Its hash.
        keys: Sample keys; "" for a lost stretch.
        members: First member of each sample, and their number at the end `[samples + 1]`.
        task: Place of each sample's task in `tasks`; -1 if it has none `[samples]`.
        source: Place of its source in `sources`; -1 if it has none `[samples]`.
        text: Characters of each conversation `[samples]`.
        fault: Place in `faults` of why a sample is not used, -1 if it is `[samples]`.
        extension: Place of each member's extension in `extensions` `[members]`.
        start: Byte where the member's headers begin `[members]`.
        offset: Byte where its content begins `[members]`.
        size: Bytes of content `[members]`.
        header_crc32: Checksum of the headers `[members]`.
        crc32: Checksum of the content `[members]`.
        width: Pixels of an image, upright; 0 for text `[members]`.
        height: The same.
        tasks: Task names.
        sources: Source names.
        extensions: Member names after the key, lower case: "json", "0.png".
        faults: Reason and detail, and the sample's id where it has one.
    """

    name: str
    bytes: int
    sha256: str
    keys: Keys
    members: Array
    task: Array
    source: Array
    text: Array
    fault: Array
    extension: Array
    start: Array
    offset: Array
    size: Array
    header_crc32: Array
    crc32: Array
    width: Array
    height: Array
    tasks: tuple[str, ...]
    sources: tuple[str, ...]
    extensions: tuple[str, ...]
    faults: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.keys)

    def used(self, pairs: bool = False) -> Array:
        """Return whether each sample is read `[samples]`.

        Args:
            pairs: Samples without a conversation are read as plain image-text pairs, all whose members are indexed.
        """
        usable: Array = self.fault == USABLE
        if not pairs:
            return usable
        readable = np.array([reason in WITHOUT_CONVERSATION for reason, *_ in self.faults] + [False])
        usable |= readable[self.fault] & (np.diff(self.members) > 0)
        return usable

    def count(self, column: str, names: Sequence[str]) -> dict[str, int]:
        """Return how many usable samples have each name in a column such as "task"."""
        places = getattr(self, column)[self.fault == USABLE]
        counts = np.bincount(places[places >= 0], minlength=len(names))
        return {name: int(count) for name, count in sorted(zip(names, counts, strict=True)) if count}

    def quarantined(self) -> dict[str, int]:
        """Return how many samples are not used, by reason."""
        found: dict[str, int] = {}
        for place in self.fault[self.fault != USABLE]:
            reason = self.faults[place][0]
            found[reason] = found.get(reason, 0) + 1
        return dict(sorted(found.items()))

    def save(self, path: Path) -> str:
        """Write the index, whole or not at all, and return its hash."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        keys: Keys = columns.pop("keys")
        arrays = {name: value for name, value in columns.items() if isinstance(value, np.ndarray)}
        arrays |= {"key_text": np.frombuffer(keys.text, dtype=np.uint8), "key_end": keys.ends}
        about = {name: value for name, value in columns.items() if name not in arrays}
        # one entry only: safetensors shuffles several, and the same shard would have indexes of different hashes
        data = save(arrays, {"about": json.dumps({"format": FORMAT, **about})})
        write_whole(path, data)
        return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, completely or not at all; several processes may write the same content at once."""
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def index_path(shard: Path) -> Path:
    """Return where the index of a shard lies: beside it."""
    return shard.with_name(shard.name.removesuffix(".tar") + SUFFIX)


def load_index(path: Path, sha256: str | None = None) -> Index:
    """Read an index.

    Args:
        path: The file.
        sha256: Its hash, to check it by.

    Raises:
        UserError: If it is missing, damaged, or of another format.
    """
    again = f"Index the set again: fcot shards index {path.parent} --again true"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"The index {path} cannot be read ({error.strerror}).\n{again}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"The index {path} is not the one its manifest names: one of them was changed.\n{again}")
    try:
        length = int.from_bytes(data[:8], "little")
        header: Mapping[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        columns: dict[str, Any] = json.loads(header["about"])
        if (found := columns.pop("format", header.get("fcot"))) != FORMAT:
            raise UserError(f"The index {path} has format {found}, not {FORMAT}.\n{again}")
        columns |= load(data)
        columns["keys"] = Keys(columns.pop("key_text").tobytes(), columns.pop("key_end"))
        for name in ("tasks", "sources", "extensions"):
            columns[name] = tuple(columns[name])
        columns["faults"] = tuple(map(tuple, columns["faults"]))
        return Index(**columns)
    except UserError:
        raise
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"The index {path} is damaged ({error}).\n{again}") from error
