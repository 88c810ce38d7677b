"""Find the tiny models that come with fcot."""

from pathlib import Path

PREFIX = ("fcot", "tiny")


def shipped(path: Path) -> Path:
    """Return the path or, if it does not exist, the installed tiny model of that name.

    Configurations and examples use the path that a tiny model has in a clone, such as `fcot/tiny/teacher`.
    """
    installed = Path(__file__).parents[1].joinpath(*path.parts[1:])
    named = path.parts[: len(PREFIX)] == PREFIX and len(path.parts) > len(PREFIX)
    return installed if named and not path.exists() and installed.is_dir() else path
