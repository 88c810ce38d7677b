"""Folders of experiments that can be stopped at any time and gone on with by the same command."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.files.lock import NO_LOCKS


def take_up(output: Path, settings: Mapping[str, Any], marker: str) -> None:
    """Make the folder of some runs, or check that it holds an earlier part of the same work.

    Args:
        output: The folder.
        settings: What the work depends on.
        marker: Name of the file there that says so.

    Raises:
        UserError: If it holds something else.
    """
    said = json.dumps(settings, indent=1) + "\n"
    file = output / marker
    if file.is_file() and file.read_text(encoding="utf-8") == said:
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            f"{str(output)!r} holds something else than an earlier part of this work.\n"
            "Give another --output, a folder that is new or empty."
        )
    output.mkdir(parents=True, exist_ok=True)
    file.write_text(said, encoding="utf-8")


@contextmanager
def held_folder(output: Path) -> Iterator[int]:
    """Hold a folder of runs; yield an open file for the processes that work there, which hold it too.

    So whoever goes on after a kill -9 waits for what the killed one had started, in place of running it a second time
    in the same folder.
    """
    file = os.open(output / "running.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Processes of an earlier call still work in {output}: waiting until they end.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"{output} lies on a file system without locks: let nothing else work there.", flush=True)
        yield file
    finally:
        os.close(file)
