"""The verbs `python -m fcot shards …`."""

from pathlib import Path


def build(
    output: Path = Path("data/tiny"),
    *,
    recipe: str = "questions",
    train: int = 20_000,
    dev: int = 200,
    test: int = 400,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Draw pages of the tiny world and write them as webdataset shards.

    Args:
        output: Folder of the sets; train, dev and test become folders in it.
        recipe: Which pages are drawn.
        train: Pages to train on; 0 builds no such set, here and below.
        dev: Pages that choose between models.
        test: Pages that are scored at the end.
        seed: Seed of all choices.
        workers: Processes that draw (default: one a core).

    Raises:
        UserError: If there is no such recipe.
    """
    from shards.build import build_set

    for split, samples in (("train", train), ("dev", dev), ("test", test)):
        if samples:
            manifest = build_set(output, recipe, split, samples, seed=seed, workers=workers)
            tasks = ", ".join(f"{count} {task}" for task, count in manifest["tasks"].items())
            megabytes = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
            print(
                f"{output / split}: {samples} pages in {len(manifest['shards'])} shards, {megabytes:.1f} MB ({tasks})"
            )
