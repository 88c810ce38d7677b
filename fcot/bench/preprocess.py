"""The verb `bench preprocess`: a page into tiles, once resized and left as bytes, beside the usual way."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcot.bench.measure import Gain, Timing, timed_in_turn
from fcot.bench.output import Table, publish
from fcot.bench.picture import Bars
from fcot.bench.workload import page_image
from fcot.internvl.pixels import normalize
from fcot.internvl.sizes import IMAGENET_MEAN, IMAGENET_STD
from fcot.internvl.tiling import cut, grid


def preprocess(
    width: int = 1700,
    height: int = 2200,
    max_tiles: int = 12,
    tile_size: int = 448,
    repeats: int = 20,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Time how a page becomes tiles, beside InternVL's way: a resize and float pixels for each tile.

    Args:
        width: Width of the page in pixels.
        height: Height of the page in pixels.
        max_tiles: Most tiles, thumbnail not counted.
        tile_size: Side of a tile in pixels.
        repeats: How often each is timed.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.
    """
    page, cpu = page_image(width, height), torch.device("cpu")
    ways = (lambda: cut(page, max_tiles, tile_size=tile_size), lambda: float_tiles(page, max_tiles, tile_size))
    times = timed_in_turn(ways, cpu, repeats)
    ours, usual = map(Timing.of, times)
    gain = Gain.over(times[1], times[0])
    tiles, floats = cut(page, max_tiles, tile_size=tile_size), float_tiles(page, max_tiles, tile_size)
    found: dict[str, Any] = {
        "bench": "preprocess",
        "width": width,
        "height": height,
        "tiles": len(tiles),
        "device": "cpu",
        "uint8": {"seconds": ours.json(), "bytes": tiles.nbytes},
        "float": {"seconds": usual.json(), "bytes": floats.nbytes},
        "times_faster": gain.json(),
        "same_tiles": torch.equal(normalize(tiles, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)), floats),
    }
    rows = [
        [name, str(Timing(**found[kind]["seconds"])), f"{found[kind]['bytes'] / 1e6:.1f} MB"]
        for kind, name in (("uint8", "cut once, uint8"), ("float", "tile by tile, float"))
    ]
    same = "the same to the last bit" if found["same_tiles"] else "NOT the same"
    publish(
        found,
        [
            Table(
                f"a {width}x{height} page into {len(tiles)} tiles", ("way", f"time, median of {repeats}", "tiles"), rows
            )
        ],
        json,
        [f"{gain} times as fast; normalised tiles are {same}"],
        plot=plot,
        panels=[
            Bars(
                "seconds",
                {"uint8": {"time": ours.median}, "float": {"time": usual.median}},
                {"uint8": ours.mark(), "float": usual.mark()},
            ),
            Bars("MB of tiles", {"uint8": {"memory": tiles.nbytes / 1e6}, "float": {"memory": floats.nbytes / 1e6}}),
        ],
    )


def float_tiles(image: Image.Image, max_tiles: int, tile_size: int) -> Tensor:
    """Return normalised tiles `[tiles, 3, S, S]` as InternVL's own preprocessing makes them.

    The page is resized to its grid's canvas and cropped, and each crop goes through the transform of a single image:
    bicubic resize to the size it has already, float pixels, normalisation.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    image = image.convert("RGB")
    columns, rows = grid(*image.size, max_tiles, tile_size=tile_size)
    canvas = image.resize((columns * tile_size, rows * tile_size), Image.Resampling.BICUBIC)
    corners = [(column * tile_size, row * tile_size) for row in range(rows) for column in range(columns)]
    crops = [canvas.crop((left, top, left + tile_size, top + tile_size)) for left, top in corners]
    if len(crops) > 1:
        crops.append(image.resize((tile_size, tile_size), Image.Resampling.BICUBIC))
    tiles = []
    for crop in crops:
        pixels = np.array(crop.resize((tile_size, tile_size), Image.Resampling.BICUBIC))
        values = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div(255)
        tiles.append(values.clone().sub_(mean).div_(std))
    return torch.stack(tiles)
