"""Where Python looks for modules while a verb runs."""

import sys
from pathlib import Path


def working_folder_last() -> None:
    """Let modules in the working folder be found, behind everything that is installed.

    `python -m fcot` puts that folder first, where a user's own `callbacks/` or `shards/` hides this project's; the
    command `fcot` leaves it out, and a callback in a file beside the configuration would not be found.
    """
    here, home = Path.cwd().resolve(), Path(__file__).resolve().parents[2]
    others = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    if not any(Path(entry).resolve() == home for entry in others):
        others.insert(0, str(home))  # a clone that is not installed, run from its own folder
    sys.path[:] = others if here == home else [*others, str(here)]
