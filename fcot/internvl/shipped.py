"""Where the tiny models are that come with fcot."""

from pathlib import Path

PREFIX = ("fcot", "tiny")


def shipped(path: Path) -> Path:
    """Return a path, or the installed model that it names if there is nothing below the working folder.

    Configurations and examples name the tiny models as they lie in a clone: `fcot/tiny/teacher`.
    """
    installed = Path(__file__).parents[1].joinpath(*path.parts[1:])
    named = path.parts[: len(PREFIX)] == PREFIX and len(path.parts) > len(PREFIX)
    return installed if named and not path.exists() and installed.is_dir() else path
