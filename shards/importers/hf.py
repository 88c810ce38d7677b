"""A Hugging Face `datasets` folder: parquet files, or the arrow files that `save_to_disk` writes."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from fcot.errors import SampleError, UserError
from shards.feed.conversation import id_of, refuse_media, text_of
from shards.importers.folder import found_in
from shards.importers.image_sources import image_bytes
from shards.importers.importer import ImportedSample, asked, imported
from shards.importers.messages import Turns, canonical, images_of
from shards.importers.registry import IMPORTERS

TURNS, IMAGES = ("conversations", "messages"), ("images", "image")
QUESTIONS, ANSWERS = ("question", "query", "prompt"), ("answers", "answer", "label", "text")


def arrow(module: str) -> Any:
    """Return a module of pyarrow.

    Raises:
        UserError: If it is not installed.
    """
    try:
        from importlib import import_module

        return import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise UserError(
            "Parquet and arrow files are read by the package 'pyarrow', which is not installed.\n"
            'Install the import extra: pip install "fcot[import]"'
        ) from error


def row_counts(path: Path) -> list[int]:
    """Return the rows of each group of rows that is read at once."""
    if path.suffix == ".parquet":
        metadata = arrow("parquet").ParquetFile(path).metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [batch.num_rows for batch in arrow("ipc").open_stream(str(path))]


@lru_cache(maxsize=2)
def group_rows(path: Path, group: int) -> Any:
    """Return one group of rows as a table; those asked for in a row are in the same one."""
    if path.suffix == ".parquet":
        return arrow("parquet").ParquetFile(path).read_row_group(group)
    return next(batch for number, batch in enumerate(arrow("ipc").open_stream(str(path))) if number == group)


class HfImporter:
    """Imports rows with a conversation, or a question and its answers, and images.

    Args:
        source: The folder, or one file.
        images: Folder of images that are named, not contained (default: the source).
        task: Task of rows that name none (default: the file's name).

    Raises:
        UserError: If there is no file, one cannot be read, or pyarrow is not installed.
    """

    def __init__(self, source: Path, images: Path | None, task: str | None) -> None:
        self.repeat_time: Mapping[str, float] = {}
        self.source, self.task = source, task
        self.images = images or (source if source.is_dir() else source.parent)
        files = found_in(source, ".parquet", ".arrow") if source.is_dir() else [source]
        try:
            self.groups = [(path, group, rows) for path in files for group, rows in enumerate(row_counts(path))]
        except UserError:
            raise
        except (OSError, ValueError) as error:  # pyarrow's own errors are subclasses
            raise UserError(f"The tables in {source} cannot be read ({error}).\nFetch them again.") from error
        self._ends = list(accumulate(rows for *_, rows in self.groups))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __call__(self, index: int) -> ImportedSample:
        """Return a row as a sample."""
        place = bisect_right(self._ends, index)
        path, group, _ = self.groups[place]
        table = group_rows(path, group)
        row = table.slice(index - (self._ends[place - 1] if place else 0), 1).to_pylist()[0]
        try:
            return self._sample(row, path.stem)
        except SampleError as error:
            error.id = id_of(row)
            raise

    def _sample(self, row: Mapping[str, Any], source: str) -> ImportedSample:
        refuse_media(row)
        turns, shown = turns_of(row, [image_bytes(image, self.images) for image in images_of(row, IMAGES)])
        images = [image_bytes(image, self.images) for image in shown]
        task = str(row.get("task") or self.task or source)
        sample = imported(turns, images, task=task, source=source, id=row.get("id"))
        answers = first_of(row, ANSWERS)
        if first_of(row, TURNS) is None and isinstance(answers, list):
            return replace(sample, record={**sample.record, "references": [str(each) for each in answers]})
        return sample


def turns_of(row: Mapping[str, Any], images: Sequence[Any]) -> tuple[Turns, list[Any]]:
    """Return the conversation of a row, made of its question and first answer if it has none, and its images.

    Raises:
        SampleError: If it has neither.
    """
    turns = first_of(row, TURNS)
    if turns is not None:
        return canonical(turns, images)
    question, answers = first_of(row, QUESTIONS), first_of(row, ANSWERS)
    answer = text_of(answers[0] if isinstance(answers, list) and answers else answers)
    if not isinstance(question, str) or not isinstance(answer, str):
        raise SampleError("bad_record", f"no conversation, no question with answer among columns {sorted(row)}")
    return asked(question, answer, max(1, len(images))), list(images)


def first_of(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the first of some columns that a row has."""
    return next((row[name] for name in names if row.get(name) is not None), None)


@IMPORTERS.add
def hf(source: Path, *, images: Path | None = None, task: str | None = None) -> HfImporter:
    """Import parquet or arrow files: see `HfImporter`."""
    return HfImporter(source, images, task)
