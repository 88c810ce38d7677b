"""Read VLMEvalKit's TSV files: pictures as base64, or as the index of the row that has it."""

import ast
import base64
import binascii
import csv
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fcot.errors import UserError
from fcot.evaluation.rows import Picture

LONGEST_INDEX = 64  # characters; a longer cell is a picture


def tsv_rows(file: Path) -> Iterator[tuple[dict[str, str], tuple[Picture, ...]]]:
    """Yield each row as text by column, and its pictures.

    Cells keep what they say: "None" and "NA" are options like others; an empty cell is none. Pictures are decoded into
    a temporary file, which ends with the process.

    Raises:
        UserError: If the file is broken.
    """
    csv.field_size_limit(sys.maxsize)
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - read for as long as its pictures are
    by_index: dict[str, Callable[[], bytes]] = {}
    waiting: list[tuple[dict[str, str], tuple[Picture, ...]]] = []
    try:
        with file.open(encoding="utf-8", newline="") as text:
            reader = csv.DictReader(text, delimiter="\t", strict=True)
            for number, row in enumerate(reader):
                if None in row or None in row.values():
                    raise UserError(f"Row {number} of {file} has other columns than its head.\nFetch the file again.")
                cells = {name: value for name, value in row.items() if name != "image"}
                pictures = _pictures(row, file, number, spool, by_index)
                waiting.append((cells, pictures))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no TSV file ({error}).\nFetch the file again.") from error
    yield from waiting


def _pictures(
    row: dict[str, str], file: Path, number: int, spool: BinaryIO, by_index: dict[str, Callable[[], bytes]]
) -> tuple[Picture, ...]:
    """Return the pictures of a row, by path where it has no column of pictures."""
    if "image" not in row:
        paths = listed(row.get("image_path", ""), file, number)
        return tuple(Picture(str(_below(file, path)), _below(file, path).read_bytes) for path in paths)
    cell = row["image"]
    if len(cell) <= LONGEST_INDEX:
        if not cell:
            return ()
        return (Picture(f"{file}, row {cell}", _later(by_index, cell, file)),)
    found = []
    for place, text in enumerate(listed(cell, file, number)):
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise UserError(
                f"The picture of row {number} of {file} is no base64 ({error}).\nFetch it again."
            ) from error
        start = spool.seek(0, os.SEEK_END)
        spool.write(data)
        spool.flush()
        found.append(
            (f"{file}, row {row['index']}" + (f", picture {place}" if place else ""), _stored(spool, start, len(data)))
        )
    by_index[row["index"]] = found[0][1]
    return tuple(Picture(*each) for each in found)


def _stored(spool: BinaryIO, start: int, size: int) -> Callable[[], bytes]:
    return lambda: os.pread(spool.fileno(), size, start)


def _later(by_index: dict[str, Callable[[], bytes]], index: str, file: Path) -> Callable[[], bytes]:
    """Return what reads the picture of another row, which may come later in the file."""

    def read() -> bytes:
        if index not in by_index:
            raise OSError(f"no row {index!r} in {file} has a picture")
        return by_index[index]()

    return read


def _below(file: Path, path: str) -> Path:
    """Return where a picture named in a TSV is."""
    return Path(path) if Path(path).is_absolute() else file.parent / path


def listed(cell: str, file: Path, number: int) -> list[str]:
    """Return the texts of a cell: of a Python list, which is read as a literal and never run, or the cell itself.

    Raises:
        UserError: If it begins like a list and is none.
    """
    if not cell.startswith("["):
        return [cell]
    return [str(each) for each in literal(cell, file, number)]


def literal(cell: str, file: Path, number: int) -> Any:
    """Return the value of a Python literal in a cell.

    Raises:
        UserError: If it is none.
    """
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(
            f"A cell in row {number} of {file} is no list: {cell[:80]!r} ({error}).\nFetch the file again."
        ) from error
