"""Documents of a corpus: a JSON of pages beside a scan, in tar files or folders, read where they lie."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fcot.errors import SampleError
from shards.feed.conversation import parse
from shards.feed.decode import IMAGE_EXTENSIONS, MAX_BYTES
from shards.format.indexing import is_companion, split_name
from shards.format.tar import Fault, open_shard, walk

SCANS = ("tif", "tiff", "pdf", *IMAGE_EXTENSIONS)  # what the words were read from first: idl has both


@dataclass(frozen=True)
class Stored:
    """A file, or a member of a tar file.

    Attributes:
        name: Its name, for messages.
        path: The file it is, or is in.
        offset: Byte where it begins.
        size: Its bytes.
    """

    name: str
    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return its content.

        Raises:
            SampleError: If it is too large, or cannot be read.
        """
        if self.size > MAX_BYTES:
            raise SampleError("too_many_bytes", f"{self.name} has {self.size} bytes, over {MAX_BYTES}")
        try:
            file = open_shard(self.path)
        except OSError as error:
            raise SampleError("unreadable_file", f"{self.path} cannot be read ({error.strerror})") from error
        try:
            data = os.pread(file, self.size, self.offset)
        finally:
            os.close(file)
        if len(data) < self.size:
            raise SampleError("cut_shard", f"{self.path} ends inside {self.name}")
        return data


@dataclass
class Document:
    """A document of a corpus.

    Attributes:
        key: Its name without extension.
        source: Tar file or folder it is in.
        pages: The JSON.
        scan: The PDF or image.
        fault: Reason and detail of why it cannot be used.
    """

    key: str
    source: str
    pages: Stored | None = None
    scan: Stored | None = None
    fault: tuple[str, str] | None = None

    def check(self) -> tuple[Stored, Stored]:
        """Return JSON and scan.

        Raises:
            SampleError: If one is missing, or something is wrong with them.
        """
        if self.fault is not None:
            raise SampleError(*self.fault)
        if self.pages is None:
            raise SampleError("missing_json", f"{self.key} of {self.source} has no .json of pages")
        if self.scan is None:
            raise SampleError("missing_scan", f"{self.key} of {self.source} has none of {', '.join(SCANS)}")
        return self.pages, self.scan


def find_documents(source: Path) -> list[Document]:
    """Return the documents of a tar file, or of a folder with tar files and plain files, subfolders too."""
    if source.is_file():
        return _in_tar(source, source.name)
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    tars = [path for path in files if path.suffix.lower() == ".tar"]
    plain = [path for path in files if path.suffix.lower() != ".tar"]
    found = [document for path in tars for document in _in_tar(path, str(path.relative_to(source)))]
    return found + _grouped(
        (Stored(str(path.relative_to(source)), path, 0, path.stat().st_size) for path in plain), source.name
    )


def _in_tar(path: Path, source: str) -> list[Document]:
    """Return the documents of a tar file; a damaged stretch of it is a document that cannot be used."""
    try:
        file = open_shard(path)
    except OSError as error:
        return [Document(path.stem, source, fault=("unreadable_file", f"{path} cannot be read ({error.strerror})"))]
    try:
        return _grouped((_member(item, path) for item in walk(file)), source)
    finally:
        os.close(file)


def _member(item: Any, path: Path) -> Stored | Document:
    if isinstance(item, Fault):
        return Document(split_name(item.name)[0], path.name, fault=(item.reason, f"{path.name}: {item.detail}"))
    return Stored(item.name, path, item.offset, item.size)


def _grouped(items: Iterator[Stored | Document], source: str) -> list[Document]:
    """Return documents in the order of their first files; whatever belongs to none is left out."""
    found: dict[str, Document] = {}
    rows: list[Document] = []
    for item in items:
        if isinstance(item, Document):  # something is wrong with a file of it, or with a stretch of unknown names
            known = found.setdefault(item.key, item) if item.key else item
            known.fault = known.fault or item.fault
            rows += [item] if known is item else []
            continue
        key, extension = split_name(item.name)
        kind = extension.rpartition(".")[2]
        if not key or is_companion(item.name) or kind not in ("json", *SCANS):
            continue
        if key not in found:
            found[key] = Document(key, source)
            rows.append(found[key])
        _add(found[key], item, kind)
    return [row for row in rows if row.fault or row.pages or row.scan]


def _add(document: Document, item: Stored, kind: str) -> None:
    """Give a document a file; of scans in several formats the first of `SCANS` is taken."""
    there = document.pages if kind == "json" else document.scan
    rank, before = (SCANS.index(each) if each in SCANS else 0 for each in (kind, there and _kind(there)))
    if there is not None and rank == before:
        document.fault = ("duplicate_member", f"{item.name} of {document.source} is a second .{kind}")
    if kind == "json":
        document.pages = item
    elif there is None or rank < before:
        document.scan = item


def _kind(stored: Stored) -> str:
    return stored.name.rpartition(".")[2].lower()


@lru_cache(maxsize=1)
def scan_of(scan: Stored) -> bytes:
    """Return the content of a scan; its pages are asked for one after another."""
    return scan.read()


@lru_cache(maxsize=1)
def pages_of(stored: Stored) -> list[Any]:
    """Return the list of pages in a JSON.

    Raises:
        SampleError: If there is none.
    """
    found = parse(stored.read())
    pages = found.get("pages") if isinstance(found, dict) else found
    if not isinstance(pages, list) or not pages:
        raise SampleError("bad_json", f"{stored.name} has no list 'pages'")
    return pages
