"""InternVL's training data: a meta JSON that names sources, each with a JSONL of conversations."""

import json
from pathlib import Path

from fcot.errors import UserError
from shards.importers.records import Annotations, RecordImporter
from shards.importers.registry import IMPORTERS


@IMPORTERS.add
def internvl(source: Path, *, images: Path | None = None, task: str | None = None) -> RecordImporter:
    """Import the sources of a meta file: `{NAME: {"root": …, "annotation": …, "repeat_time": …}}`.

    Widths and heights in the records are not needed: they are read from the images.

    Args:
        source: The meta JSON; relative paths in it are tried from here and from its folder.
        images: Folder that roots are named in (default: as paths say).
        task: Task of all samples (default: the source's name).

    Raises:
        UserError: If the file is no meta file, or names annotations that are not there.
    """
    try:
        meta = json.loads(source.read_bytes())
        files = [
            Annotations(
                path=_found(source, row["annotation"]),
                root=_found(source, row["root"]) if images is None else images / row["root"],
                source=name,
                repeat_time=float(row.get("repeat_time", 1)),
            )
            for name, row in meta.items()
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source} is no InternVL meta file ({error!r}).\n"
            'Give JSON such as {"docvqa": {"root": "images/", "annotation": "docvqa.jsonl", "repeat_time": 1}}.'
        ) from error
    return RecordImporter(files, task)


def _found(meta: Path, name: str) -> Path:
    """Return a path of a meta file: from the working folder, or from the meta file's."""
    path = Path(name)
    return path if path.exists() or path.is_absolute() else meta.parent / path
