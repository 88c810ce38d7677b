"""Read parquet files of the Hugging Face Hub; pictures stay on disk until they are asked for."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from fcot.errors import UserError
from fcot.evaluation.rows import Picture

GROUPS_HELD = 3  # row groups whose pictures are held: rows are read nearly in order


def parquet_rows(files: Sequence[Path], image: str) -> Iterator[tuple[dict[str, Any], Picture | None]]:
    """Yield each row without its picture, and the picture, None where the row has none.

    Args:
        files: In order.
        image: Name of the column of pictures: bytes, or a struct with `bytes`.

    Raises:
        UserError: If pyarrow is missing, or a file is broken or has no such column.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError('Parquet files are read by pyarrow.\nInstall it: pip install "fcot[import]"') from None
    for file in files:
        try:
            opened = parquet.ParquetFile(file)
            if image not in opened.schema_arrow.names:
                raise UserError(f"{file} has no column {image!r}.\nFetch the benchmark again.")
            pictures = Pictures(opened, image, file, ArrowException)
            others = [name for name in opened.schema_arrow.names if name != image]
            for group in range(opened.num_row_groups):
                rows = opened.read_row_group(group, columns=others).to_pylist()
                there = [True] * len(rows) if pictures.complete(group) else pictures.there(group)
                for number, row in enumerate(rows):
                    yield row, pictures.at(group, number) if there[number] else None
        except (ArrowException, OSError) as error:
            raise UserError(f"{file} cannot be read ({error}).\nFetch the benchmark again.") from error


def pictured_rows(files: Sequence[Path], image: str) -> Iterator[tuple[dict[str, Any], Picture]]:
    """Yield each row and its picture; see `parquet_rows`.

    Raises:
        UserError: Also if a row has no picture.
    """
    for file in files:
        for number, (row, picture) in enumerate(parquet_rows([file], image)):
            if picture is None:
                raise UserError(f"Row {number} of {file} has no picture.\nFetch the benchmark again.")
            yield row, picture


class Pictures:
    """The pictures of a parquet file.

    Args:
        opened: The file.
        column: Name of the column.
        file: Its path, for messages.
        errors: What reading it raises if it is broken.
    """

    def __init__(self, opened: Any, column: str, file: Path, errors: type[Exception]) -> None:
        self.opened, self.column, self.file, self.errors = opened, column, file, errors
        self.lock = Lock()
        self.held: OrderedDict[int, Any] = OrderedDict()

    def group(self, group: int) -> Any:
        """Return a row group's column, read if it is not held."""
        with self.lock:
            if group not in self.held:
                self.held[group] = self.opened.read_row_group(group, columns=[self.column])[self.column]
                while len(self.held) > GROUPS_HELD:
                    self.held.popitem(last=False)
            self.held.move_to_end(group)
            return self.held[group]

    def complete(self, group: int) -> bool:
        """Return whether the file says that no row of a group is without a picture, so that none need be read."""
        columns = self.opened.metadata.row_group(group)
        for column in map(columns.column, range(columns.num_columns)):
            if column.path_in_schema in (self.column, f"{self.column}.bytes"):
                said = column.statistics
                return said is not None and bool(said.has_null_count) and said.null_count == 0
        return False

    def there(self, group: int) -> list[bool]:
        """Return which rows of a group have a picture."""
        valid: list[bool] = self.group(group).is_valid().to_pylist()
        return valid

    def at(self, group: int, number: int) -> Picture:
        """Return a row's picture."""

        def read() -> bytes:
            try:
                value = self.group(group)[number].as_py()
            except self.errors as error:
                raise OSError(str(error)) from error
            data = value["bytes"] if isinstance(value, dict) else value
            if not isinstance(data, bytes):
                raise OSError("the row has no bytes of a picture")
            return data

        return Picture(f"{self.file}, row {number} of group {group}", read)
