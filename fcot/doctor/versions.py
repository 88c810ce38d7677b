"""Installed versions beside those that this project asks for."""

import platform
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True)
class Installed:
    """A package and the versions of it that may be used.

    Attributes:
        name: Its name.
        found: Its version here; None if it is not installed.
        allowed: Versions that may be used, such as ">=2.6.6".
    """

    name: str
    found: str | None
    allowed: SpecifierSet

    @property
    def wanted(self) -> str:
        """What pip is asked for, such as "lightning>=2.6.6"."""
        return f"{self.name}{self.allowed}"

    @property
    def problem(self) -> str | None:
        """What is wrong and what to do; None if nothing is."""
        if self.found is None:
            return f"{self.name} is not installed. Install it: pip install '{self.wanted}'"
        # a local build such as 2.13.0+cpu counts as its release; a pre-release was installed on purpose
        if not self.allowed.contains(self.found, prereleases=True):
            return (
                f"{self.name} {self.found} is not among the versions allowed ({self.allowed}). Install '{self.wanted}'."
            )
        return None


def requirements() -> tuple[str, list[str]]:
    """Return the Python and the packages that are asked for, from the clone or the installed metadata."""
    if PROJECT.is_file():  # a clone's metadata are as old as its installation; pyproject.toml is newer after a pull
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], project["dependencies"]
    about = metadata("fcot")
    return about["Requires-Python"] or "", about.get_all("Requires-Dist") or []


def installed() -> Iterator[Installed]:
    """Yield Python and all packages that are needed, extras left out."""
    python, needed = requirements()
    yield Installed("python", platform.python_version(), SpecifierSet(python))
    for line in needed:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                found: str | None = version(requirement.name)
            except PackageNotFoundError:
                found = None
            yield Installed(requirement.name, found, requirement.specifier)
