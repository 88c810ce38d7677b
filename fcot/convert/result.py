"""What a conversion leaves behind: a complete folder or none, and notes for the user."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcot.convert.config import CONFIG_FILE
from fcot.convert.llama import HEAD
from fcot.convert.mapping import Mapped
from fcot.errors import UserError
from fcot.files.atomic_folder import Kind, prepare_output, whole_folder

CONVERTED = Kind("a converted model", CONFIG_FILE)


@dataclass(frozen=True)
class Converted:
    """A finished conversion.

    Attributes:
        folder: The new folder.
        language_model: Class of the language model in the original code.
        parameters: Number of parameters, a tied head not counted.
        notes: Sentences on what the folder lacks.
    """

    folder: Path
    language_model: str
    parameters: int
    notes: tuple[str, ...] = ()


def write_folder(destination: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder that appears at `destination` once it is complete.

    A conversion that was killed leaves only a temporary folder beside it, which the next one removes.

    Raises:
        UserError: If there is something at `destination`.
    """
    given, destination = destination, destination.resolve()  # "." has no name of its own
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UserError(f"{given} exists already.\nGive a folder that does not, or remove that one first.")
    prepare_output(destination, CONVERTED, overwrite=False)
    with whole_folder(destination, CONVERTED) as folder:
        fill(folder)


def count_parameters(entries: Sequence[Mapped], *, tied: bool) -> int:
    """Return the number of parameters of a model, a tied head not counted."""
    return sum(math.prod(entry.shape) for entry in entries if not (tied and entry.native == (HEAD,)))
