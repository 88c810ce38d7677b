"""LLaVA's training data: a JSON list (or JSONL) of conversations, each with the name of its image."""

from pathlib import Path

from shards.importers.records import Annotations, RecordImporter


def llava(source: Path, *, images: Path | None, task: str | None) -> RecordImporter:
    """Import `[{"id": …, "image": …, "conversations": [{"from": "human", "value": …}, …]}, …]`.

    Args:
        source: The file.
        images: Folder that images are named in (default: the file's).
        task: Task of all samples (default: the file's name).

    Raises:
        UserError: If the file cannot be read.
    """
    return RecordImporter([Annotations(source, images or source.parent, source.stem)], task)
