"""Write samples of another format as a set of shards."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import track

from fcot.errors import UserError
from shards.engines import Engine, Local
from shards.format.writer import write_set
from shards.importers import IMPORTERS, Settings

OWN = ("dpi", "markdown")  # settings that mean something to few formats


def import_set(
    kind: str,
    source: Path,
    output: Path,
    settings: Settings,
    *,
    options: Mapping[str, Any] | None = None,
    shard_size: int = 1000,
    workers: int | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Import a set; an interrupted import goes on with the shards that are not written yet.

    Args:
        kind: Name of an importer.
        source: File or folder in its format.
        output: Folder of the new set.
        settings: What is said of the import.
        options: Further options of this importer alone.
        shard_size: Samples in a shard.
        workers: Processes that read (default: one a core).
        engine: What reads (default: these processes).
        overwrite: Replace a set that is there.

    Returns:
        The set's manifest.

    Raises:
        UserError: If kind or source is unknown, nothing in it can be used, or a set is there already.
    """
    asked, own = IMPORTERS.options(kind), dict(options or {})
    IMPORTERS.check_options(kind, own)
    if not source.exists():
        raise UserError(f"There is nothing at {str(source)!r}.\nGive the file or folder to import.")
    given = {name: value for name, value in asdict(settings).items() if name in asked and value is not None}
    importer = IMPORTERS[kind](source, **given | own)
    if not len(importer):
        raise UserError(f"There is nothing to import in {str(source)!r} as {kind}.\nGive another folder or format.")
    manifest = write_set(
        output,
        importer,
        len(importer),
        shard_size=shard_size,
        engine=engine or Local(workers=workers),
        reads=[source, *filter(None, [settings.images])],
        # an interrupted import goes on only where all of this is the same
        describe={
            "importer": kind,
            "imported_from": source.name,
            **{name: str(value) for name, value in asdict(settings).items() if value is not None and name not in OWN},
            **{name: given[name] for name in OWN if name in given},
            **({"repeat_time": dict(importer.repeat_time)} if importer.repeat_time else {}),
            **({"options": own} if own else {}),
        },
        progress=lambda rows, total: track(rows, f"Importing {len(importer)} samples to {output}", total=total),
        resume=True,
        replaces=lambda _: overwrite,
    )
    if not manifest["samples"]:
        raise UserError(f"None of the {len(importer)} samples in {source} could be used: {manifest['skipped']}.")
    return manifest
