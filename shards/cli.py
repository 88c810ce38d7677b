"""The verbs `fcot shards …`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def build(
    output: Path = Path("data/tiny"),
    *,
    recipe: str = "questions",
    train: int = 20_000,
    dev: int = 200,
    test: int = 400,
    seed: int = 0,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    overwrite: bool = False,
) -> None:
    """Draw pages of the tiny world and write them as webdataset shards.

    Args:
        output: Folder of the sets; train, dev and test become folders in it.
        recipe: Which pages are drawn: letters, reading, questions, print, pages, teacher, typed or study.
        train: Pages to train on; 0 builds no such set, here and below.
        dev: Pages that choose between models.
        test: Pages that are scored at the end.
        seed: Seed of all choices.
        workers: Processes that draw (default: one a core).
        engine: What they work on: local (this machine), ray or dask (a cluster; see shards/SPREADING.md).
        address: Where the cluster is: auto or HOST:PORT of ray, tcp://HOST:PORT of dask; without it, ray and dask work
            on this machine.
        overwrite: Replace sets that were imported or written elsewhere, too; drawn ones always are.

    Raises:
        UserError: If there is no such recipe, or a set is there that was not drawn.
    """
    from shards.build import build_set
    from shards.engines import executor

    with executor(engine, address, workers) as opened:
        for split, samples in (("train", train), ("dev", dev), ("test", test)):
            if samples:
                manifest = build_set(output, recipe, split, samples, seed=seed, engine=opened, overwrite=overwrite)
                print(told(output / split, manifest))


def import_(
    kind: str,
    source: Path,
    output: Path,
    *,
    images: Path | None = None,
    task: str | None = None,
    question: str | None = None,
    dpi: int = 150,
    markdown: bool = False,
    options: dict[str, Any] | None = None,
    shard_size: int = 1000,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write data of another format as verified webdataset shards; called again, it goes on where it was stopped.

    Args:
        kind: internvl (meta JSON with JSONL), llava (JSON), sharegpt (JSON or JSONL), hf (a folder of parquet or arrow
            files), pdf (a folder of PDF files), pdfa (words and boxes in JSON beside PDF or TIFF, as in pdfa and idl
            corpora) or folder (images, each with a text file).
        source: File or folder to import.
        output: Folder of the new set, such as data/mine/train.
        images: Folder that images are named in (default: the source's).
        task: Task of the samples (default: what the data say, or their source's name).
        question: What is asked of a PDF's page, or an image with a text file (default: Read the text.).
        dpi: Pixels an inch of rendered pages.
        markdown: Write tables as Markdown tables (pdfa).
        options: Options of an importer that comes from a plugin.
        shard_size: Samples in a shard.
        workers: Processes that read (default: one a core).
        engine: What they work on: local (this machine), ray or dask (a cluster; see shards/SPREADING.md).
        address: Where the cluster is: auto or HOST:PORT of ray, tcp://HOST:PORT of dask; without it, ray and dask work
            on this machine.
        overwrite: Replace a finished set that is there.

    Raises:
        UserError: If there is no such importer or source, nothing in it can be used, or a set is there already.
    """
    import time

    from shards.engines import executor
    from shards.importers import Settings
    from shards.importing import import_set

    start = time.perf_counter()
    settings = Settings(images, task, question, dpi, markdown)
    with executor(engine, address, workers) as opened:
        manifest = import_set(
            kind,
            source,
            output,
            settings,
            options=options,
            shard_size=shard_size,
            engine=opened,
            overwrite=overwrite,
        )
    spent = time.perf_counter() - start
    print(told(output, manifest))
    print(f"{manifest['samples'] / spent:.1f} samples/s")
    print_changes(output, manifest)


def index(
    folder: Path,
    *,
    again: bool = False,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
) -> None:
    """Index the shards of a set, whoever wrote them; called again, it goes on where it was stopped.

    Args:
        folder: Folder of tar files in webdataset form, or one file.
        again: Index shards anew that have an index, because they were changed on purpose.
        workers: Processes that read (default: one a core).
        engine: What they work on: local (this machine), ray or dask (a cluster; see shards/SPREADING.md).
        address: Where the cluster is: auto or HOST:PORT of ray, tcp://HOST:PORT of dask; without it, ray and dask work
            on this machine.

    Raises:
        UserError: If there are no shards, or their folder cannot be written to.
    """
    from rich.progress import track

    from shards.engines import executor
    from shards.format.manifest import index_set

    with executor(engine, address, workers) as opened:
        manifest = index_set(
            folder,
            again=again,
            engine=opened,
            progress=lambda rows, total: track(rows, f"Indexing {folder}", total=total),
        )
    print(told(folder, manifest))
    if aside := manifest.get("quarantined"):
        print(f"{sum(aside.values())} samples cannot be used and are set aside: {counts(aside)}")
    print_pairs(folder)


def verify(
    folder: Path,
    *,
    again: bool = False,
    pairs: bool = False,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
) -> None:
    """Verify every byte of a set against its index; the exit code is 1 if anything is wrong.

    Args:
        folder: Folder of indexed shards, or one file.
        again: Verify shards too that were verified before and not changed since.
        pairs: Samples without a conversation are image-text pairs, read with --data.pair, and not wrong.
        workers: Processes that read (default: this one alone).
        engine: What they work on: local (this machine), ray or dask (a cluster; see shards/SPREADING.md).
        address: Where the cluster is: auto or HOST:PORT of ray, tcp://HOST:PORT of dask; without it, ray and dask work
            on this machine.

    Raises:
        UserError: If there are no shards.
        SystemExit: With code 1 if anything is wrong.
    """
    from rich.progress import track

    from shards.engines import executor
    from shards.format.shard_set import ShardSet
    from shards.format.verify import verify_set

    samples = ShardSet(folder, pairs=pairs)
    if engine == "local":
        workers = workers or 1  # a set is read as fast as its disk goes, and small ones before a second process is up
    with executor(engine, address, workers) as opened:
        found = verify_set(
            samples,
            again=again,
            engine=opened,
            progress=lambda rows, total: track(rows, f"Verifying {folder}", total=total),
        )
    for skip in found:
        print(f"{skip.shard} {skip.key!r}: {skip.reason}, {skip.detail}")
    if found:
        raise SystemExit(1)
    print(f"{folder}: {len(samples)} samples in {len(samples.paths)} shards are as indexed")


def inspect(
    folder: Path,
    *,
    output: Path | None = None,
    samples: int = 20,
    max_tiles: int = 12,
    tile_size: int = 448,
    pairs: bool = False,
    json: str | None = None,
) -> None:
    """Show what is in a set: counts, lengths, tiles, and a contact sheet of some samples.

    Args:
        folder: Folder of shards, or one file.
        output: PNG to draw the contact sheet to (default: none is drawn).
        samples: Samples on the contact sheet.
        max_tiles: Most tiles of an image, thumbnail not counted.
        tile_size: Side of a tile in pixels.
        pairs: Samples without a conversation are image-text pairs, read with --data.pair, and count as usable.
        json: File for the figures, - for the standard output.

    Raises:
        UserError: If there are no shards, or a file cannot be written.
    """
    import json as json_lib

    from fcot.files.results import write_or_print
    from shards.format.shard_set import ShardSet
    from shards.inspection import describe, save_sheet

    found = ShardSet(folder, pairs=pairs)
    about = describe(found, max_tiles=max_tiles, tile_size=tile_size)
    if json != "-":
        print("\n".join(lines(about)))
        if not pairs:
            print_pairs(folder)
    if json is not None:
        write_or_print(json_lib.dumps(about, indent=1), json)
    if output is not None:
        save_sheet(found, output, samples)
        print(f"contact sheet: {output}")


def print_changes(output: Path, manifest: Mapping[str, Any]) -> None:
    """Say what an import wrote otherwise than it was, and what it left out."""
    if reencoded := manifest.get("reencoded"):
        print(f"written again as PNG, without loss: {counts(reencoded)}")
    if spelled := manifest.get("control_tokens"):
        print(f"samples whose text spells out control tokens, which stay text: {counts(spelled)}")
    if skipped := manifest.get("skipped"):
        print(f"{sum(skipped.values())} skipped: {counts(skipped)}; named in {output / 'skipped.jsonl'}")


def print_pairs(folder: Path) -> None:
    """Say how many of the samples that are set aside may be plain image-text pairs, if any are."""
    from shards.feed.plain_pairs import HINT
    from shards.format.shard_set import ShardSet

    if pairs := len(ShardSet(folder, pairs=True).usable()) - len(ShardSet(folder).usable()):
        print(f"{pairs} of those set aside have no conversation; {HINT}")


def told(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Return a line about a set."""
    megabytes = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
    return (
        f"{folder}: {manifest['samples']} pages in {len(manifest['shards'])} shards, {megabytes:.1f} MB "
        f"({counts(manifest['tasks'])})"
    )


def counts(found: Mapping[str, int], most: int = 12) -> str:
    """Return "3 table, 2 text", the largest numbers if there are many."""
    rows = sorted(found.items(), key=lambda row: -row[1]) if len(found) > most else list(found.items())
    more = f", and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(f"{count} {name}" for name, count in rows[:most]) + more


def lines(about: Mapping[str, Any]) -> list[str]:
    """Return the figures of a set as lines of text, the histogram of tiles as bars."""
    length, tiles = about["characters"], about["tiles"]
    most = max(tiles.values(), default=1)
    bars = [f"  {number:>4} {'█' * max(1, round(40 * count / most))} {count}" for number, count in tiles.items()]
    return [
        f"{about['set']}: {about['samples']} samples in {about['shards']} shards, {about['bytes'] / 1e6:.1f} MB",
        f"usable       {about['usable']}"
        + (f"; set aside: {counts(about['quarantined'])}" if about["quarantined"] else ""),
        f"tasks        {counts(about['tasks'])}",
        f"sources      {len(about['sources'])}: {counts(about['sources'], 5)}",
        f"characters   median {length['median']}, 95 % up to {length['p95']}, {length['least']} to {length['most']}",
        f"tiles a sample, at most {about['max_tiles']} of {about['tile_size']} pixels an image and a thumbnail",
        *bars,
    ]
