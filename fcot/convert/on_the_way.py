"""Let a checkpoint in the original layout be given wherever a model folder is: it is converted once, beside itself."""

import fcntl
import json
import shlex
from pathlib import Path

from safetensors import SafetensorError

from fcot.convert.config import CONFIG_FILE, ORIGINAL_TYPE
from fcot.errors import UserError


def native_folder(path: Path) -> Path:
    """Return a model folder in the native layout: `path` itself, or its conversion in `PATH-native`.

    The first call converts; later ones, and other processes that wait meanwhile, find the folder.

    Args:
        path: A model folder in any layout, or one that does not exist; `ModelFolder` speaks about that.

    Raises:
        UserError: If the folder cannot be converted, or has changed since it was.
    """
    file = path / CONFIG_FILE
    if not _is_original(file):
        return path
    named = path if path.name else path.resolve()
    converted = named.with_name(f"{named.name}-native")
    with file.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process converts
        if (converted / CONFIG_FILE).is_file():
            _check_current(path, converted)
            return converted
        from fcot.convert.native import convert_to_native

        print(f"{path} is in the original layout: converting it to {converted}, once.")
        try:
            done = convert_to_native(path, converted)
        except (OSError, SafetensorError) as error:
            command = shlex.join(["python", "-m", "fcot", "convert", str(path), "FOLDER"])
            raise UserError(
                f"{converted} cannot be written ({error}).\nConvert to another place, and give that: {command}"
            ) from error
        for note in done.notes:
            print(f"Note: {note}")
    return converted


def _is_original(file: Path) -> bool:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("model_type") == ORIGINAL_TYPE


def _check_current(source: Path, converted: Path) -> None:
    written = (converted / CONFIG_FILE).stat().st_mtime
    for file in source.iterdir():
        if file.is_file() and file.stat().st_mtime > written:
            raise UserError(
                f"{file} is newer than {converted}, which was converted from its folder.\n"
                f"Remove {converted} to have it converted again, or give it as the checkpoint."
            )
