"""Look at each picture of a benchmark once: which rows show the same page, how large it is, and whether it decodes."""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from fcot.errors import SampleError
from fcot.evaluation.rows import Picture, Row
from fcot.internvl.decode import FORMATS, decode_image


@dataclass(frozen=True)
class Page:
    """A picture as it was found.

    Attributes:
        sha256: Of its bytes: rows with the same value show the same page.
        width: In pixels.
        height: In pixels.
        failed: Why it cannot be looked at; "" if it can.
    """

    sha256: str
    width: int
    height: int
    failed: str = ""


def look(picture: Picture) -> Page:
    """Read a picture and its header; pixels are not decoded."""
    try:
        data = picture.read()
    except (OSError, SampleError) as error:
        return Page("", 0, 0, f"{picture.name} cannot be read ({error})")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # decoding judges the size
            width, height = Image.open(io.BytesIO(data), formats=FORMATS).size
    except Exception as error:  # Pillow's decoders raise many types; each means the same here
        return Page(sha256, 0, 0, f"{picture.name}: {error}")
    return Page(sha256, width, height)


def survey(rows: Iterable[Row], seen: Callable[[], object] = lambda: None, threads: int = 4) -> dict[str, list[Page]]:
    """Look at the pictures of rows, each name once.

    Args:
        rows: Of a benchmark.
        seen: Called after each picture.
        threads: Read so many at a time.

    Returns:
        The pages of each row by its id.
    """
    rows = list(rows)
    named = {picture.name: picture for row in rows for picture in row.pictures}

    pages: dict[str, Page] = {}
    with ThreadPoolExecutor(threads) as pool:
        for name, page in zip(named, pool.map(look, named.values()), strict=True):
            pages[name] = page
            seen()
    return {row.id: [pages[picture.name] for picture in row.pictures] for row in rows}


def remembered(
    file: Path, rows: Sequence[Row], made_of: str, find: Callable[[], dict[str, list[Page]]]
) -> dict[str, list[Page]]:
    """Return the pages of rows from a file of an earlier look, or look and write it.

    Args:
        file: Where they are kept.
        rows: Of the benchmark.
        made_of: Names, sizes and times of the files that hold the rows; another value makes the file void.
        find: Looks at the pictures.
    """
    ids = [row.id for row in rows]
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["made_of"] == made_of and list(kept["pages"]) == ids:
            return {row_id: [Page(**page) for page in pages] for row_id, pages in kept["pages"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or its writing was interrupted
    found = find()
    file.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "made_of": made_of,
        "pages": {row_id: [asdict(page) for page in pages] for row_id, pages in found.items()},
    }
    beside = file.with_suffix(".part")
    beside.write_text(json.dumps(written), encoding="utf-8")
    beside.replace(file)
    return found


def pixels(picture: Picture) -> Image.Image:
    """Decode a picture to RGB as the authors' scripts do: no rotation by its EXIF data, transparency dropped.

    Raises:
        SampleError: If it cannot be decoded, or is too large.
    """
    try:
        image = decode_image(picture.read(), picture.name).convert("RGB")
    except OSError as error:
        raise SampleError("unreadable_image", f"{picture.name} cannot be read ({error})") from error
    image.info = {}  # or tiling would rotate by it
    return image
