"""Responses on disk, appended as they come: what was paid for is never paid again."""

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from fcot.errors import UserError
from shards.factory.requests import Response

SYNC_SECONDS = 1.0


@dataclass(frozen=True)
class Place:
    """Where a response stands in a journal.

    Attributes:
        offset: First byte of its line.
        length: Bytes of the line.
    """

    offset: int
    length: int


class Journal:
    """The responses to the requests of one source shard, one JSON object a line with its checksum.

    A line that a kill cut short, or whose checksum is wrong, is as if it had never been written. One process at a time
    may append.

    Args:
        path: The file; created by the first response.

    Attributes:
        damaged: Lines that were found to be no response.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.damaged = path, 0
        self._file: int | None = None
        self._synced = 0.0

    def read(self) -> dict[str, tuple[Response, Place]]:
        """Return every response by its request's id; of several, the first one that is no refusal."""
        found: dict[str, tuple[Response, Place]] = {}
        self.damaged = 0
        for response, place in self._lines():
            if response is None:
                self.damaged += 1
            elif response.id not in found or (found[response.id][0].refused and not response.refused):
                found[response.id] = (response, place)
        return found

    def _lines(self) -> Iterator[tuple[Response | None, Place]]:
        if not self.path.is_file():
            return
        offset = 0
        with self.path.open("rb") as file:
            for line in file:
                place = Place(offset, len(line))
                offset += len(line)
                if line.strip():
                    yield parsed(line), place

    def append(self, response: Response) -> None:
        """Write a response in one call of the system; it is on disk within a second.

        Raises:
            UserError: If it cannot be written.
        """
        with self._writing():
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
                if self._torn():
                    os.write(self._file, b"\n")
            line = written(response)
            if os.write(self._file, line) < len(line):
                raise OSError("the disk is full")
            if monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = monotonic()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error}).\n"
                "Make room and run the command again: the responses that are there are kept."
            ) from error

    def _torn(self) -> bool:
        """Return whether the last line has no end."""
        assert self._file is not None
        size = os.fstat(self._file).st_size
        return size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def close(self) -> None:
        """Flush to disk.

        Raises:
            UserError: If it cannot be written.
        """
        file, self._file = self._file, None
        if file is not None:
            with self._writing():
                try:
                    os.fsync(file)
                finally:
                    os.close(file)


def response_at(path: Path, place: Place) -> Response:
    """Return the response at a place of a journal.

    Raises:
        UserError: If it is not there any more.
    """
    with path.open("rb") as file:
        found = parsed(os.pread(file.fileno(), place.length, place.offset))
    if found is None:
        raise UserError(f"{path} was changed at byte {place.offset} while it was read.\nRun the command again.")
    return found


def written(response: Response) -> bytes:
    """Return the line of a response."""
    text = json.dumps(asdict(response), sort_keys=True)
    return f'{{"crc": "{zlib.crc32(text.encode()):08x}", "response": {text}}}\n'.encode()


def parsed(line: bytes) -> Response | None:
    """Return the response of a line, None if it is none."""
    try:
        found = json.loads(line)
        text = json.dumps(found["response"], sort_keys=True)
        if found["crc"] != f"{zlib.crc32(text.encode()):08x}":
            return None
        return Response(**found["response"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
