"""Find the files of a set below a folder."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fcot.errors import UserError

DEPTH = 8  # folders below the root that are looked into
ENDINGS = (".json", ".jsonl", ".parquet", ".tsv", ".txt", ".csv")
# official files have ids that a server asks for; a TSV has neither these nor, above 1 GiB, the pictures as they were
LAYOUTS = ("official", "internvl", "parquet", "tsv")


def files_below(root: Path) -> list[Path]:
    """Return the files below a folder that may hold rows, in order of their names.

    Raises:
        UserError: If there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {str(root)!r}.\nGive --root, the folder that holds the benchmarks.")
    found, base = [], len(root.parts)
    for folder, below, names in os.walk(root, followlinks=True):
        if len(Path(folder).parts) - base >= DEPTH:
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(folder, name) for name in names if name.endswith(ENDINGS)]
    return sorted(found)


def layouts_there(
    root: Path, places: Mapping[str, Sequence[str]], files: Sequence[Path]
) -> list[tuple[str, tuple[Path, ...]]]:
    """Return each layout that is there whole with its files, best first; further copies of one follow it.

    Files are of one copy if their paths are the same before what a pattern fits, and in its group "copy" if it has
    one. A second download is never read as more rows.

    Args:
        root: The folder.
        places: By layout, patterns of which each must fit the end of some path.
        files: Below the root.
    """
    named = [(f"{root.resolve().name}/{file.relative_to(root).as_posix()}", file) for file in files]
    found: list[tuple[str, tuple[Path, ...]]] = []
    for layout in LAYOUTS:
        patterns = places.get(layout, ())
        copies: dict[str, list[list[Path]]] = {}
        for place, pattern in enumerate(patterns):
            fits = re.compile(rf"(?:^|/){pattern}$")
            for name, file in named:
                if fit := fits.search(name):
                    copy = name[: fit.start()] + (fit.groupdict().get("copy") or "")
                    copies.setdefault(copy, [[] for _ in patterns])[place].append(file)
        whole = [groups for groups in copies.values() if all(groups)]
        found += [(layout, tuple(file for group in groups for file in group)) for groups in whole]
    return found


def hub(name: str, config: str, split: str) -> str:
    """Return the pattern of a split's files as the Hugging Face Hub has them, in a download or in its cache."""
    return rf"(?P<copy>(?:datasets--[^/]*--)?{name}/(?:snapshots/[^/]+/)?){config}/{split}-\d+-of-\d+[^/]*\.parquet"
