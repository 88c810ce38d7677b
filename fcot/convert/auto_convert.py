"""Accept a checkpoint in the original layout wherever a model folder is expected: convert it once, beside itself."""

import json
import shlex
from pathlib import Path

from safetensors import SafetensorError

from fcot.convert.config import CONFIG_FILE, ORIGINAL_TYPE
from fcot.errors import UserError
from fcot.files.lock import one_writer


def native_folder(path: Path) -> Path:
    """Return a model folder in the native layout: `path` itself, or its conversion in `PATH-native`.

    The first call converts; later ones, and other processes that wait meanwhile, find the folder.

    Args:
        path: A model folder in any layout, or one that does not exist; `ModelFolder` speaks about that.

    Raises:
        UserError: If the folder cannot be converted, or has changed since it was.
    """
    converted = native_place(path)
    if converted is None:
        return path
    if is_converted(converted):  # found without a lock: the place may be one that is only read
        _check_current(path, converted)
    else:
        _convert(path, converted)
    return converted


def native_place(path: Path) -> Path | None:
    """Return where the conversion of a folder in the original layout belongs, None if `path` is no such folder."""
    try:
        content = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("model_type") != ORIGINAL_TYPE:
        return None
    named = path if path.name else path.resolve()
    return named.with_name(f"{named.name}-native")


def is_converted(place: Path) -> bool:
    """Return whether there is a conversion at its place; one that was interrupted is not there."""
    return (place / CONFIG_FILE).is_file()


def _convert(path: Path, converted: Path) -> None:
    """Convert a folder, or wait for the process that does."""
    from fcot.convert.native import convert_to_native

    try:
        with one_writer(converted.with_name(f"{converted.name}.lock"), str(converted)):
            if is_converted(converted):
                return
            print(f"{path} is in the original layout: converting it to {converted}, once.")
            done = convert_to_native(path, converted)
    except (OSError, SafetensorError) as error:
        command = shlex.join(["fcot", "convert", str(path), "FOLDER"])
        raise UserError(
            f"{converted} cannot be written ({error}).\nConvert to another place, and give that: {command}"
        ) from error
    for note in done.notes:
        print(f"Note: {note}")


def _check_current(source: Path, converted: Path) -> None:
    written = (converted / CONFIG_FILE).stat().st_mtime
    for file in source.iterdir():
        if file.is_file() and file.stat().st_mtime > written:
            raise UserError(
                f"{file} is newer than {converted}, which was converted from its folder.\n"
                f"Remove {converted} to have it converted again, or give it as the checkpoint."
            )
