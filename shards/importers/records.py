"""Records of conversations in JSON files: the base of several importers."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from fcot.errors import SampleError, UserError
from shards.feed.conversation import WrittenNumber, id_of, parse, refuse_media
from shards.importers.image_sources import image_bytes
from shards.importers.importer import ImportedSample, imported
from shards.importers.messages import canonical, images_of


@dataclass(frozen=True)
class Annotations:
    """A file of records.

    Attributes:
        path: A `.jsonl` of one record a line, or a `.json` with a list of them.
        root: Folder that images are named in.
        source: Name of the source.
        repeat_time: How often an epoch reads it.
    """

    path: Path
    root: Path
    source: str
    repeat_time: float = 1.0


@cache
def line_starts(path: Path) -> np.ndarray:
    """Return where each line that is not empty begins, and where the last one ends."""
    starts, position = [], 0
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                starts.append(position)
            position += len(line)
    return np.array([*starts, position], dtype=np.int64)


@cache
def listed_records(path: Path) -> list[Any]:
    """Return the list of records in a JSON file.

    Raises:
        UserError: If it is none.
    """
    try:
        found = json.loads(path.read_bytes(), parse_float=WrittenNumber)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}).\nGive a list of records, or a .jsonl.") from error
    if not isinstance(found, list):
        raise UserError(f"{path} holds a {type(found).__name__}, not a list of records.\nGive a list, or a .jsonl.")
    return found


def count_records(path: Path) -> int:
    """Return how many records a file has."""
    if not path.is_file():
        raise UserError(f"There are no annotations at {str(path)!r}.\nGive the path of a .json or .jsonl file.")
    return len(line_starts(path)) - 1 if path.suffix == ".jsonl" else len(listed_records(path))


def record_at(path: Path, number: int) -> Mapping[str, Any]:
    """Return a record of a file.

    Raises:
        SampleError: If it is no JSON object.
    """
    if path.suffix == ".jsonl":
        starts = line_starts(path)
        with path.open("rb") as file:
            file.seek(int(starts[number]))
            line = file.read(int(starts[number + 1] - starts[number]))
        try:
            found = parse(line)
        except SampleError as error:
            raise SampleError("bad_json", f"line of {path.name} at byte {starts[number]}: {error}") from error
    else:
        found = listed_records(path)[number]
    if not isinstance(found, dict):
        raise SampleError("bad_json", f"record {number} of {path.name} is no object")
    return found


@dataclass
class RecordImporter:
    """Imports conversations that name image files.

    Attributes:
        files: The annotations.
        task: Task of records that name none (default: their source's name).
    """

    files: Sequence[Annotations]
    task: str | None = None
    _ends: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._ends = list(accumulate(count_records(file.path) for file in self.files))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def repeat_time(self) -> Mapping[str, float]:
        """How often an epoch reads each source that is not read once."""
        return {file.source: file.repeat_time for file in self.files if file.repeat_time != 1}

    def __call__(self, index: int) -> ImportedSample:
        """Return a sample."""
        place = bisect_right(self._ends, index)
        file = self.files[place]
        record = record_at(file.path, index - (self._ends[place - 1] if place else 0))
        try:
            return self._sample(record, file)
        except SampleError as error:
            error.id = id_of(record)
            raise

    def _sample(self, record: Mapping[str, Any], file: Annotations) -> ImportedSample:
        refuse_media(record)
        beside = [image_bytes(image, file.root) for image in images_of(record)]
        turns, shown = canonical(record.get("conversations", record.get("messages")), beside)
        images = [image_bytes(image, file.root) for image in shown]
        task = str(record.get("task", self.task or file.source))
        return imported(turns, images, task=task, source=file.source, id=record.get("id"))
