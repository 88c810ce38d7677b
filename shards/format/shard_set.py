"""Read samples of a set by their number, each checked against the index."""

import os
import zlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fcot.errors import SampleError, UserError
from fcot.internvl.tiling import grid, num_tiles
from shards.format.index import Array, index_path, load_index
from shards.format.manifest import index_set, is_indexed, manifest_hash, read_manifest, shard_paths
from shards.format.tar import open_shard

OPEN_FILES = 64


class ShardSet:
    """The samples of a set, by number.

    Samples are read by `pread` at the offsets in the index, not by webdataset's pipeline, which can neither start at a
    given sample nor continue after a damaged header. The shards stay what webdataset writes and reads.

    Args:
        source: Folder of shards, or one tar file; indexed if it is not yet, which is said.
        pairs: Samples without a conversation count as usable: they are read as plain image-text pairs.

    Raises:
        UserError: If there are no shards, or manifest, indexes and shards do not belong together.
    """

    def __init__(self, source: Path, *, pairs: bool = False) -> None:
        self.source, self.pairs = source, pairs
        paths = shard_paths(source)
        manifest = read_manifest(source)
        if manifest is None or not is_indexed(manifest):
            print(f"{source} has no index: reading its {len(paths)} shards once to make one.")
            manifest = index_set(source)
        self.manifest_hash = manifest_hash(manifest)
        rows = manifest["shards"]
        new = {path.name for path in paths} - {row["name"] for row in rows}
        if new:
            raise UserError(
                f"{min(new)} lies in {str(source)!r}, and the manifest there does not know it.\n"
                f"If it belongs there: fcot shards index {source}"
            )
        folder = source if source.is_dir() else source.parent
        self.paths = [folder / row["name"] for row in rows]
        self.repeat_time: dict[str, float] = manifest.get("repeat_time", {})
        self.indexes = [load_index(index_path(p), row["index_sha256"]) for p, row in zip(self.paths, rows, strict=True)]
        self.first = np.cumsum([0, *map(len, self.indexes)])
        self._files: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}  # file descriptors stay with their process

    def __del__(self) -> None:
        for file in self.__dict__.get("_files", {}).values():
            os.close(file)

    def usable(self) -> Array:
        """Return the numbers of the samples that are not quarantined, in order."""
        return np.flatnonzero(np.concatenate([index.used(self.pairs) for index in self.indexes]))

    def quarantined(self, limit: int | None = None) -> list[tuple[str, ...]]:
        """Return shard, key, reason, detail and known id of what indexing set aside, of the first `limit` samples."""
        return [
            (self._shown(place), index.keys[int(row)], *index.faults[index.fault[row]])
            for place, index in enumerate(self.indexes)
            for row in np.flatnonzero(~index.used(self.pairs))
            if limit is None or self.first[place] + row < limit
        ]

    def reasons(self) -> dict[str, int]:
        """Return how many samples indexing set aside, by reason."""
        return dict(Counter(reason for _, _, reason, *_ in self.quarantined()))

    def names(self, column: str) -> tuple[list[str], Array]:
        """Return all names of a column, "task" or "source", and the place of each sample's name among them."""
        known: dict[str, int] = {}
        parts = []
        for index in self.indexes:
            own = np.array([known.setdefault(name, len(known)) for name in getattr(index, f"{column}s")] + [-1])
            parts.append(own[getattr(index, column)])  # -1, no name, is the last
        return list(known), np.concatenate(parts)

    def text(self) -> Array:
        """Return the characters of each sample's conversation."""
        return np.concatenate([index.text for index in self.indexes])

    def tiles(self, max_tiles: int, tile_size: int) -> Array:
        """Return how many tiles each sample is cut into."""
        sizes = np.concatenate([index.width.astype(np.int64) << 32 | index.height for index in self.indexes])
        known, place = np.unique(sizes, return_inverse=True)
        both = zip((known >> 32).tolist(), (known & 0xFFFFFFFF).tolist(), strict=True)
        counts = np.array(
            [num_tiles(*grid(w, h, max_tiles, tile_size=tile_size)) if w else 0 for w, h in both], np.int64
        )
        summed = np.concatenate([[0], np.cumsum(counts[place])])
        starts = np.cumsum([0, *(len(index.offset) for index in self.indexes)])
        ends = [summed[start + index.members] for start, index in zip(starts, self.indexes, strict=False)]
        return np.concatenate([np.diff(end) for end in ends])

    def place(self, number: int) -> tuple[int, int]:
        """Return the shard of a sample and its row there."""
        shard = int(np.searchsorted(self.first, number, side="right")) - 1
        return shard, number - int(self.first[shard])

    def name(self, number: int) -> tuple[str, str]:
        """Return the shard and the key of a sample, for messages."""
        shard, row = self.place(number)
        return self._shown(shard), self.indexes[shard].keys[row]

    def read(self, number: int) -> Mapping[str, Any]:
        """Return the members of a sample as bytes by extension, with `__key__`.

        Raises:
            SampleError: If the shard is not there, is cut off, or holds other bytes than were indexed.
        """
        shard, row = self.place(number)
        index = self.indexes[shard]
        first, last = int(index.members[row]), int(index.members[row + 1])
        start, end = index.start[first:last].tolist(), (index.offset[first:last] + index.size[first:last]).tolist()
        file = self._open(shard)
        low, high = min(start, default=0), max(end, default=0)
        together = high - low <= 2 * (sum(end) - sum(start)) + 4096  # members of a sample are neighbours, as a rule
        block = self._bytes(file, low, high, shard) if together else b""
        raw: dict[str, Any] = {"__key__": index.keys[row]}
        for place in range(first, last):
            begin, offset, size = int(index.start[place]), int(index.offset[place]), int(index.size[place])
            shift = begin - low if together else 0
            piece = block if together else self._bytes(file, begin, offset + size, shard)
            inner = shift + offset - begin
            header, content = piece[shift:inner], piece[inner : inner + size]
            extension = index.extensions[index.extension[place]]
            if len(content) < size:
                raise SampleError("cut_shard", f"the file ends inside .{extension}, before byte {offset + size}")
            if zlib.crc32(header) != index.header_crc32[place]:
                raise SampleError("damaged_header", f"the header of .{extension} at byte {begin} is not as indexed")
            if zlib.crc32(content) != index.crc32[place]:
                raise SampleError("damaged_member", f"the bytes of .{extension} at byte {offset} are not as indexed")
            raw[extension] = content
        return raw

    def changed(self) -> list[str]:
        """Return a sentence for each shard whose file is gone or has another size than when it was indexed."""
        said = []
        for path, index in zip(self.paths, self.indexes, strict=True):
            found = path.stat().st_size if path.is_file() else None
            if found != index.bytes:
                now = "is gone" if found is None else f"has {found} bytes"
                said.append(f"{path} {now}, and had {index.bytes} when it was indexed")
        return said

    def _shown(self, shard: int) -> str:
        return f"{self.paths[shard].parent.name}/{self.paths[shard].name}"

    def _bytes(self, file: int, start: int, stop: int, shard: int) -> bytes:
        try:
            return os.pread(file, stop - start, start)
        except OSError as error:
            os.close(self._files.pop(shard))  # the next sample tries again
            what = f"{self.paths[shard]} cannot be read at byte {start} ({error.strerror})"
            raise SampleError("unreadable_shard", what) from error

    def _open(self, shard: int) -> int:
        file = self._files.get(shard)
        if file is None:
            try:
                file = open_shard(self.paths[shard])
            except OSError as error:
                raise SampleError("missing_shard", f"{self.paths[shard]} cannot be read ({error.strerror})") from error
            self._files[shard] = file
            if len(self._files) > OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(shard)
        return file
