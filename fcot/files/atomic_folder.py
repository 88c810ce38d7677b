"""Write a folder that appears whole or not at all, even if the process is killed."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fcot.errors import UserError

ADVICE = "Allow overwriting it, or choose another output folder."


@dataclass(frozen=True)
class Kind:
    """What a folder holds.

    Attributes:
        name: What it is called in messages: "a merged model".
        marker: A file that each such folder has and others do not.
    """

    name: str
    marker: str

    def is_at(self, folder: Path) -> bool:
        """Return whether there is such a folder."""
        return (folder / self.marker).is_file()


def prepare_output(output: Path, kind: Kind, *, overwrite: bool, advice: str = ADVICE) -> None:
    """Clear what a killed run left beside `output`, and check that `output` may be written.

    Args:
        output: Where a folder is to be written.
        kind: What it will hold.
        overwrite: Whether one of this kind may be replaced.
        advice: What to do if it may not; a sentence for the error.

    Raises:
        UserError: If `output` holds one of this kind and `overwrite` is false, or holds anything else.
    """
    previous = _previous(output)
    if previous.exists():
        if output.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(output)  # killed between the two renames of an overwrite
    for stale in output.parent.glob(f"{glob.escape(output.name)}.tmp-*"):
        shutil.rmtree(stale)
    check_output(output, kind, overwrite=overwrite, advice=advice)


def check_output(output: Path, kind: Kind, *, overwrite: bool, advice: str = ADVICE) -> None:
    """Check that `output` may be written, changing nothing; the arguments are those of `prepare_output`.

    Raises:
        UserError: If `output` holds one of this kind and `overwrite` is false, or holds anything else.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not kind.is_at(output):
        raise UserError(f"{output} exists and is not {kind.name}.\nChoose another output folder.")
    if not overwrite:
        raise UserError(f"{output} already holds {kind.name}.\n{advice}")


@contextmanager
def whole_folder(output: Path, kind: Kind) -> Iterator[Path]:
    """Yield a temporary folder to fill, then flush it to disk and rename it to `output`.

    An earlier folder of the same kind is replaced only once the new one is complete.
    """
    temporary = output.with_name(f"{output.name}.tmp-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _to_disk(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    previous = _previous(output)
    if kind.is_at(output):
        output.rename(previous)
    temporary.rename(output)
    _to_disk(output.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(output: Path) -> Path:
    return output.with_name(f"{output.name}.previous")


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
