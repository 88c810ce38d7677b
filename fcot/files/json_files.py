"""Read and write the JSON files of a model folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcot.errors import UserError


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: If the file is missing or holds no JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"There is no {file.name} in {str(file.parent)!r}.\n"
            "Give a model folder; code (*.py) in a folder is never run."
        ) from None
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({error}).\nFetch the file again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object.\nFetch the file again.")
    return content


def read_optional(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no such file."""
    return read_json(file) if file.is_file() else {}


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON that people can read."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
