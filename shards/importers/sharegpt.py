"""ShareGPT conversations: `conversations` with `from` and `value`, or `messages` with `role` and `content`."""

from pathlib import Path

from shards.importers.folder import found_in
from shards.importers.records import Annotations, RecordImporter
from shards.importers.registry import IMPORTERS


@IMPORTERS.add
def sharegpt(source: Path, *, images: Path | None = None, task: str | None = None) -> RecordImporter:
    """Import one file, or every `.json` and `.jsonl` of a folder as a source of its own.

    A system message is put before the question that follows it; `images` lists the image files of a record.

    Args:
        source: A file or a folder.
        images: Folder that images are named in (default: the file's).
        task: Task of all samples (default: the file's name).

    Raises:
        UserError: If a file cannot be read.
    """
    files = found_in(source, ".json", ".jsonl", subfolders=False) if source.is_dir() else [source]
    return RecordImporter([Annotations(file, images or file.parent, file.stem) for file in files], task)
