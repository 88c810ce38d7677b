"""Read and write files that hold one JSON object."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcot.errors import UserError


def read_json(file: Path, advice: str | None = None) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        file: The file.
        advice: What to do if it is missing or broken, a sentence (default: what helps with a file of a model folder).

    Raises:
        UserError: If the file is missing, cannot be read or holds no JSON object.
    """
    missing = advice or "Give a model folder; code (*.py) in a folder is never run."
    broken = advice or "Fetch the file again."
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"There is no {file.name} in {str(file.parent)!r}.\n{missing}") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).\n{missing}") from error
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({error}).\n{broken}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object.\n{broken}")
    return content


def read_optional(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no such file."""
    return read_json(file) if file.is_file() else {}


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON that people can read."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
