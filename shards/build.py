"""Build the drawn sets of the tiny world."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.progress import track

from fcot.errors import UserError, nearest
from shards.engines import Engine, Local
from shards.format.manifest import read_manifest
from shards.format.writer import write_set
from shards.render.recipes import RECIPES, SPLITS, Draw


def build_set(
    root: Path,
    recipe: str,
    split: str,
    samples: int,
    *,
    seed: int = 0,
    shard_size: int = 1000,
    workers: int | None = None,
    engine: Engine | None = None,
    keep: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draw one set and write it to `root/split`.

    The pages depend on recipe, split, seed and index only, not on shard size or workers.

    Args:
        root: Folder of the sets.
        recipe: Name of a recipe.
        split: "train", "dev" or "test"; each draws from documents and tables of its own.
        samples: How many pages.
        seed: Seed of all choices.
        shard_size: Pages in a shard.
        workers: Processes that draw (default: one a core).
        engine: What draws (default: these processes).
        keep: Leave a set that is there as it is: another process may have drawn it in the meantime.
        overwrite: Replace a set that was not drawn, too.

    Returns:
        The set's manifest.

    Raises:
        UserError: If recipe or split is unknown, or a set is there that was not drawn.
    """
    if recipe not in RECIPES:
        raise UserError(f"There is no recipe {recipe!r}.{nearest(recipe, RECIPES)}")
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}. Splits are {', '.join(SPLITS)}.")

    def progress(rows: Iterable[Any], total: int) -> Iterable[Any]:
        return track(rows, f"Drawing {samples} pages for {root / split}", total=total)

    return write_set(
        root / split,
        Draw(recipe, split, seed, samples),
        samples,
        shard_size=shard_size,
        engine=engine or Local(workers=workers),
        describe={"recipe": recipe, "split": split, "seed": seed},
        progress=progress,
        keep=keep,
        replaces=lambda found: overwrite or "recipe" in found,
    )


def build_missing(root: Path, recipe: str, samples: Mapping[str, int], *, seed: int = 0) -> None:
    """Draw the sets that are missing in a folder, and say which of those there have another size than is asked for.

    Args:
        root: Folder of the sets.
        recipe: Name of a recipe.
        samples: How many pages of each split.
        seed: Seed of all choices.

    Raises:
        UserError: If a set is missing beside data that were not drawn: pages of another world would go with them.
    """
    missing = [split for split in samples if not (root / split).exists()]
    if missing and any(root.glob("*.tar")):
        raise UserError(f"{root} holds shards itself.\nGive the folder above it, with the sets train, dev and test.")
    for own in SPLITS if missing else ():
        if _is_own(root / own):
            raise UserError(
                f"{root / own} is not drawn pages, and {root} has no {' and no '.join(missing)}.\n"
                "Give it one, or draw none with --data.recipe null."
            )
    for split, asked in samples.items():
        if split in missing:
            build_set(root, recipe, split, asked, seed=seed, keep=True)
        elif (manifest := read_manifest(root / split)) is not None:
            found = manifest["samples"] + sum(manifest.get("skipped", {}).values())
            if found != asked:
                print(
                    f"{root / split} has {found} samples; the configuration asks for {asked}, "
                    "and what is there is taken.",
                    flush=True,
                )


def _is_own(folder: Path) -> bool:
    """Return whether a folder holds data that no recipe drew."""
    return folder.is_dir() and any(folder.iterdir()) and "recipe" not in (read_manifest(folder) or {})
