"""LLaVA's training data: a JSON list (or JSONL) of conversations, each with the name of its image."""

from pathlib import Path

from shards.importers.records import Annotations, RecordImporter
from shards.importers.registry import IMPORTERS


@IMPORTERS.add
def llava(source: Path, *, images: Path | None = None, task: str | None = None) -> RecordImporter:
    """Import `[{"id": …, "image": …, "conversations": [{"from": "human", "value": …}, …]}, …]`.

    Args:
        source: The file.
        images: Folder that images are named in (default: the file's).
        task: Task of all samples (default: the file's name).

    Raises:
        UserError: If the file cannot be read.
    """
    return RecordImporter([Annotations(source, images or source.parent, source.stem)], task)
