"""Read JSON files and files of one JSON value a line, without keeping broken ones silent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.evaluation.rows import Picture


def json_file(file: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: If it is missing or broken.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).\nFetch the benchmark again.") from error
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({error}).\nFetch the benchmark again.") from error


def json_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the object on each line of a file.

    Raises:
        UserError: If a line is broken.
    """
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"Line {number} of {file} is not valid JSON ({error}).\nFetch the benchmark again."
                ) from error


def picture_file(file: Path) -> Picture:
    """Return a picture that is a file."""
    return Picture(str(file), file.read_bytes)
