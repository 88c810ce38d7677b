"""Make the index of a shard by reading it once, without trusting anything in it."""

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fcot.errors import SampleError
from shards.feed.conversation import id_of, parse
from shards.feed.decode import (
    ALLOWED,
    MAX_BYTES,
    MAX_SAMPLE_BYTES,
    MAX_TEXT_BYTES,
    conversation_in,
    image_size,
    is_image,
)
from shards.feed.plain_pairs import HINT, has_conversation
from shards.format.index import USABLE, WITHOUT_CONVERSATION, Index, Keys
from shards.format.tar import Fault, Member, open_shard, walk

PIECE = 1 << 20
COMPANIONS = (".DS_Store", "Thumbs.db", "desktop.ini")
MEDIA = ("mp4", "m4v", "mov", "avi", "mkv", "webm", "mp3", "wav", "flac", "ogg", "m4a", "aac")


@dataclass
class FoundSample:
    """A sample as it is found in a shard.

    Attributes:
        key: Its key, "" for a lost stretch.
        members: Extension and place of each member that may be read.
        faults: Why it cannot be used, the first reason counts.
        beside_loss: Members next to it are lost, so that it may be half of a sample.
    """

    key: str
    members: list[tuple[str, Member]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    beside_loss: bool = False

    def extensions(self) -> frozenset[str]:
        """Return what follows the key in the members' names."""
        return frozenset(extension for extension, _ in self.members)


def is_companion(name: str) -> bool:
    """Return whether a member is what a Mac or Windows writes beside files, and belongs to no sample."""
    *folders, last = name.split("/")
    return last.startswith("._") or last in COMPANIONS or "__MACOSX" in folders


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its last part, as webdataset does, extension in lower case."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return folder + slash + stem, extension.lower()


def find_samples(file: int) -> list[FoundSample]:
    """Return the samples of an open shard in the order of their first members, and its lost stretches.

    Members of a key need not be neighbours: a sample is whole wherever they lie.
    """
    samples: dict[str, FoundSample] = {}
    rows: list[FoundSample] = []
    last: FoundSample | None = None
    lost = False
    for item in walk(file):
        if isinstance(item, Fault) and not item.name:
            rows.append(FoundSample("", faults=[(item.reason, item.detail)]))
            if last is not None:
                last.beside_loss = True
            lost = True
            continue
        if isinstance(item, Member) and is_companion(item.name):
            continue
        key, extension = split_name(item.name)
        sample = samples.get(key)
        if sample is None:
            samples[key] = sample = FoundSample(key)
            rows.append(sample)
        if isinstance(item, Fault):
            sample.faults.append((item.reason, item.detail))
            continue
        sample.beside_loss |= lost
        last, lost = sample, False
        wrong = refusal(item, key, extension, sample)
        if wrong:
            sample.faults.append(wrong)
        else:
            sample.members.append((extension, item))
    _refuse_halves(rows)
    for sample in rows:
        if (size := sum(member.size for _, member in sample.members)) > MAX_SAMPLE_BYTES:
            sample.faults.append(("too_many_bytes", f"{sample.key} has {size} bytes, over {MAX_SAMPLE_BYTES}"))
            sample.members.clear()
    return rows


def refusal(member: Member, key: str, extension: str, sample: FoundSample) -> tuple[str, str] | None:
    """Return why a member is not read, None if it may be."""
    if key and extension.rpartition(".")[2] in MEDIA:
        return "unsupported_media", f"{member.name} is a video or a sound; only images are read"
    if not key or extension.rpartition(".")[2] not in ALLOWED:
        return "refused_member", f"{member.name} is none of {', '.join(ALLOWED)}"
    most = MAX_BYTES if is_image(extension) else MAX_TEXT_BYTES
    if member.size > most:
        return "too_many_bytes", f"{member.name} has {member.size} bytes, over {most}"
    if extension in sample.extensions():
        return "duplicate_member", f"{member.name} is there twice"
    return None


def _refuse_halves(rows: Sequence[FoundSample]) -> None:
    """Refuse samples next to a lost stretch if other samples of the shard have members that these lack."""
    whole = {sample.extensions() for sample in rows if not sample.beside_loss and not sample.faults}
    for sample in rows:
        if sample.beside_loss and not sample.faults:
            own = sample.extensions()
            if not whole or any(own < other for other in whole):
                sample.faults.append(("half_sample", f"members beside {sample.key} are lost, it may not be whole"))


def index_shard(path: Path, *, samples: int | None = None) -> Index:
    """Read a shard and return its index.

    Args:
        path: The tar file, never inflated.
        samples: How many samples it should have, if that is known; missing ones are counted as lost.
    """
    file = open_shard(path)
    try:
        before = os.fstat(file)
        rows = find_samples(file)
        table = _Table(file)
        for row in rows:
            table.add(row)
        for _ in range(len(rows), samples or 0):
            table.add(FoundSample("", faults=[("cut_shard", f"{samples} samples were written, {len(rows)} are there")]))
        digest, position = hashlib.sha256(), 0
        while piece := os.pread(file, PIECE, position):
            digest.update(piece)
            position += len(piece)
    finally:
        os.close(file)
    return Index(name=path.name, bytes=before.st_size, sha256=digest.hexdigest(), **table.columns())


def check(record: Any, sample: FoundSample) -> None:
    """Refuse a sample without a conversation; whether it is read as a plain pair is for a run to say.

    Raises:
        SampleError: With the reason it cannot be used as it is.
    """
    if "json" not in sample.extensions():
        raise SampleError("missing_json", f"there is no .json member; {HINT}")  # the same for all: sets have millions
    conversation_in(record)


def characters(record: Mapping[str, Any], members: Mapping[str, bytes]) -> int:
    """Return the length of a sample's conversation, or else of its text files."""
    turns = record.get("conversations")
    if isinstance(turns, list) and turns:
        return sum(len(str(turn.get("value", ""))) for turn in turns if isinstance(turn, dict))
    texts = (content for extension, content in members.items() if extension.rpartition(".")[2] == "txt")
    return sum(len(content.decode("utf-8", "replace")) for content in texts)


class _Table:
    """Fills the columns of an index."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.keys: list[str] = []
        self.names: dict[str, dict[Any, int]] = {name: {} for name in ("tasks", "sources", "extensions", "faults")}
        self.samples: list[tuple[int, ...]] = []
        self.members: list[tuple[int, ...]] = []
        self.first = [0]

    def add(self, sample: FoundSample) -> None:
        """Add a sample and its members."""
        fault: tuple[str, ...] | None = sample.faults[0] if sample.faults else None
        record: Any = None
        members: dict[str, bytes] = {}
        try:
            rows = []
            for extension, member in sample.members:
                members[extension], row = self._member(extension, member)
                rows.append(row)
            self.members.extend(rows)  # only all of them: half of a sample's rows help nobody
            record = parse(members["json"]) if "json" in members else None
            if fault is None:
                check(record, sample)
        except SampleError as error:
            fault = fault or (error.reason, str(error))
        self.first.append(len(self.members))
        self.keys.append(sample.key)
        about = record if isinstance(record, dict) else {}
        named = fault is None or fault[0] in WITHOUT_CONVERSATION
        if fault is not None and has_conversation(record) and id_of(record) is not None:
            fault = (*fault, str(id_of(record)))
        self.samples.append(
            (
                self._place("tasks", str(about.get("task", "unknown"))) if named else -1,
                self._place("sources", str(about.get("source", "unknown"))) if named else -1,
                characters(about, members),
                USABLE if fault is None else self._place("faults", fault),
            )
        )

    def _member(self, extension: str, member: Member) -> tuple[bytes, tuple[int, ...]]:
        block = os.pread(self.file, member.offset + member.size - member.start, member.start)
        header = member.offset - member.start
        content = block[header:]
        width, height = image_size(content, member.name) if is_image(extension) else (0, 0)
        return content, (
            self._place("extensions", extension),
            *(member.start, member.offset, member.size),
            *(zlib.crc32(block[:header]), zlib.crc32(content)),
            *(width, height),
        )

    def _place(self, column: str, name: Any) -> int:
        return self.names[column].setdefault(name, len(self.names[column]))

    def columns(self) -> dict[str, Any]:
        """Return the columns by their names in `Index`."""
        samples = np.array(self.samples, dtype=np.int32).reshape(-1, 4).T
        members = np.array(self.members, dtype=np.int64).reshape(-1, 8).T
        kinds = (np.int32, np.int64, np.int64, np.int64, np.uint32, np.uint32, np.int32, np.int32)
        names = ("extension", "start", "offset", "size", "header_crc32", "crc32", "width", "height")
        return {
            "keys": Keys.of(self.keys),
            "members": np.array(self.first, dtype=np.int64),
            **dict(zip(("task", "source", "text", "fault"), map(np.ascontiguousarray, samples), strict=True)),
            **{name: row.astype(kind) for name, row, kind in zip(names, members, kinds, strict=True)},
            **{name: tuple(places) for name, places in self.names.items()},
        }


def counted(indexes: Iterable[Index], column: str) -> dict[str, int]:
    """Return the counts of tasks or sources of several shards together."""
    total: Counter[str] = Counter()
    for index in indexes:
        total.update(index.count(column, getattr(index, f"{column}s")))
    return dict(sorted(total.items()))
