"""Look into a set: what is in it, how long and how large its samples are, and some of them in a picture."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fcot.errors import SampleError
from fcot.files.results import file_to_write
from fcot.internvl.decode import decode_image
from fcot.internvl.tiling import to_rgb
from shards.feed.conversation import parse
from shards.feed.decode import is_image
from shards.feed.plain_pairs import TXT, has_conversation
from shards.format.shard_set import ShardSet
from shards.render.page import font

CELL, CAPTION, GAP = 300, 78, 12  # pixels of the contact sheet
COLUMNS = 5
LINE = 200  # characters that are tried to fit a cell; a text may have millions
INK, PALE, PAPER = "#22262b", "#6b7480", "#f3f1ec"


def describe(samples: ShardSet, *, max_tiles: int, tile_size: int) -> dict[str, Any]:
    """Return counts, lengths and tiles of a set.

    Args:
        samples: The set.
        max_tiles: Most tiles of an image, thumbnail not counted.
        tile_size: Side of a tile in pixels.
    """
    usable = samples.usable()
    text, tiles = samples.text()[usable], samples.tiles(max_tiles, tile_size)[usable]
    counts = np.bincount(tiles) if len(tiles) else np.zeros(0, np.int64)
    columns = {}
    for column in ("task", "source"):
        names, place = samples.names(column)
        found = np.bincount(place[usable][place[usable] >= 0], minlength=len(names))
        columns[f"{column}s"] = {name: int(count) for name, count in zip(names, found, strict=True) if count}
    return {
        "set": str(samples.source),
        "shards": len(samples.paths),
        "bytes": sum(index.bytes for index in samples.indexes),
        "samples": len(samples),
        "usable": len(usable),
        "quarantined": samples.reasons(),
        **columns,
        "characters": {
            name: int(np.percentile(text, share)) if len(text) else 0
            for name, share in (("least", 0), ("median", 50), ("p95", 95), ("most", 100))
        },
        "tiles": {str(number): int(count) for number, count in enumerate(counts) if count},
        "max_tiles": max_tiles,
        "tile_size": tile_size,
    }


def chosen(samples: ShardSet, count: int) -> list[int]:
    """Return the numbers of samples spread over the whole set, the same each time."""
    usable = samples.usable()
    return [int(usable[int(at)]) for at in np.linspace(0, len(usable) - 1, min(count, len(usable)))]


def contact_sheet(samples: ShardSet, count: int = 20) -> Image.Image:
    """Draw samples: the first page of each over its key, task, question and answer."""
    cells = [_cell(samples, number) for number in chosen(samples, count)]
    columns = min(COLUMNS, max(1, len(cells)))
    rows = -(-len(cells) // columns)
    height = CELL + CAPTION
    size = (columns * (CELL + GAP) + GAP, rows * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    for place, cell in enumerate(cells):
        sheet.paste(cell, (GAP + place % columns * (CELL + GAP), GAP + place // columns * (height + GAP)))
    return sheet


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _cell(samples: ShardSet, number: int) -> Image.Image:
    cell = Image.new("RGB", (CELL, CELL + CAPTION), "white")
    draw = ImageDraw.Draw(cell)
    shard, key = samples.name(number)
    try:
        raw = samples.read(number)
        record, question, answer = spoken(raw)
        images = sorted(name for name in raw if is_image(name))
        more = f", {len(images)} images" if len(images) > 1 else ""
        head = f"{key} · {record.get('task', '')}{more}"
        lines = [head, question.replace("<image>", ""), answer]
        if images:
            page = to_rgb(decode_image(raw[images[0]], images[0]))
            page.thumbnail((CELL - 2, CELL - 2), Image.Resampling.LANCZOS)
            cell.paste(page, ((CELL - page.width) // 2, (CELL - page.height) // 2))
    except (SampleError, LookupError, TypeError, ValueError) as error:
        lines = [f"{key} · {shard}", "unusable", str(error)]
    draw.line([(0, CELL), (CELL, CELL)], fill=PAPER, width=2)
    for place, line in enumerate(lines):
        name, size, ink = ("DejaVuSans", 14, PALE) if place == 0 else ("DejaVuSans", 15, INK)
        draw.text((8, CELL + 7 + 23 * place), _fit(line, name, size), font=font(name, size), fill=ink)
    return cell


def spoken(raw: Mapping[str, Any]) -> tuple[dict[str, Any], str, str]:
    """Return the record of a sample, its last question and the answer; of a plain pair, its text as the answer."""
    record = parse(raw["json"]) if "json" in raw else {}
    if has_conversation(record):
        *_, asked, said = record["conversations"]
        return record, str(asked["value"]), str(said["value"])
    texts = [content.decode("utf-8", "replace") for name, content in raw.items() if name.endswith(TXT)]
    return record if isinstance(record, dict) else {}, "(the run's prompt)", texts[0] if texts else str(record)


def _fit(text: str, name: str, size: int) -> str:
    """Return a text on one line that fits a cell."""
    line = " ".join(text[:LINE].split())
    if font(name, size).getlength(line) <= CELL - 16:
        return line
    while line and font(name, size).getlength(line + "…") > CELL - 16:
        line = line[:-1]
    return line + "…"


def save_sheet(samples: ShardSet, path: Path, count: int) -> None:
    """Write the contact sheet as a PNG.

    Raises:
        UserError: If there is a folder at `path`, or it cannot be written.
    """
    sheet = png(contact_sheet(samples, count))
    with file_to_write(path, "sheet.png") as file:
        file.write_bytes(sheet)
