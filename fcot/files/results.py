"""Write results to files that a user names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcot.errors import UserError


@contextmanager
def file_to_write(path: Path, example: str) -> Iterator[Path]:
    """Create the folder of a file, and refuse a path that the block cannot write to.

    Args:
        path: File that the user named.
        example: A name such as "sheet.png" that an error offers.

    Raises:
        UserError: If there is a folder at `path`, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        offered = path / example if path.is_dir() else example
        raise UserError(f"{path} cannot be written ({error.strerror}).\nGive a file, such as {offered}.") from error


def write_or_print(text: str, target: str) -> None:
    """Write text to a file, or to the standard output if the target is "-".

    Raises:
        UserError: If the file cannot be written.
    """
    if target == "-":
        print(text)
        return
    with file_to_write(Path(target), "results.json") as file:
        file.write_text(text + "\n", encoding="utf-8")
