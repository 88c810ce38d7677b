"""Where a record has an image: a file, a data URI, or its bytes. Nothing is fetched from the network."""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from fcot.errors import SampleError
from shards.feed.decode import MAX_BYTES

PLACES = ("image_url", "url", "path", "image", "file_name", "filename")  # of a part or a column, in this order
HOLDERS = (*PLACES, "bytes", "source", "data", "base64")
SCHEME = re.compile(r"(?i)[a-z][a-z0-9+.-]*://")


def image_bytes(found: Any, root: Path) -> tuple[str, bytes]:
    """Return the name and the bytes of an image.

    Args:
        found: A path within `root`, a `data:` URI, bytes, or an object that has one of these; what this returns, too.
        root: Folder that paths are in.

    Raises:
        SampleError: If it is none of these, lies elsewhere, or is too large.
    """
    if isinstance(found, tuple):
        return found
    if isinstance(found, bytes):
        return "image", found
    if isinstance(found, Mapping):
        return _of_object(found, root)
    if isinstance(found, str):
        if found[:5].lower() == "data:":
            return "the image in the record", _of_data_uri(found)
        if found[:7].lower() == "file://":
            found = unquote(found[7:])
        elif scheme := SCHEME.match(found):
            raise SampleError("remote_image", f"the image {found!r} is not fetched over {scheme[0]}; download it first")
    return str(found), read_bounded(inside(root, found))


def _of_object(found: Mapping[str, Any], root: Path) -> tuple[str, bytes]:
    if isinstance(found.get("bytes"), bytes):
        return str(found.get("path") or "image"), found["bytes"]
    source = found.get("source")
    for holder in (source, found):
        for name in ("data", "base64"):
            if isinstance(holder, Mapping) and isinstance(holder.get(name), str):
                return "the image in the record", _of_base64(holder[name])
    inner = source if isinstance(source, Mapping) else found
    place = next((inner[name] for name in PLACES if inner.get(name) is not None), None)
    if isinstance(place, Mapping) and any(isinstance(place.get(name), Mapping) for name in PLACES):
        raise SampleError("bad_json", "an image is an object within an object within an object")
    return image_bytes(place, root)


def _of_data_uri(uri: str) -> bytes:
    """Return the content of a `data:` URI."""
    head, comma, content = uri.partition(",")
    if not comma:
        raise SampleError("undecodable_image", "the data URI has no comma, and so no content")
    if head.lower().endswith(";base64"):
        return _of_base64(unquote(content) if "%" in content else content)
    return unquote_to_bytes(content)


def _of_base64(text: str) -> bytes:
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise SampleError("too_many_bytes", f"the image in the record has over {MAX_BYTES} bytes")
    try:
        plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SampleError("undecodable_image", f"the image in the record is no base64: {error}") from error


def inside(root: Path, name: Any) -> Path:
    """Return the path of a file that a record names, within a root.

    Raises:
        SampleError: If the name leads out of the root, or there is no such file.
    """
    path = Path(str(name))
    if not isinstance(name, str) or path.is_absolute() or ".." in path.parts:
        raise SampleError("outside_root", f"the image {name!r} is no path within {root}")
    try:
        there = (root / path).is_file()
    except (OSError, ValueError):  # a name too long for a file system, or with a zero byte
        there = False
    if not there:
        raise SampleError("missing_image", f"there is no image {name!r} in {root}")
    return root / path


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file of bounded size.

    Raises:
        SampleError: If it is too large or cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SampleError("too_many_bytes", f"{path} has {path.stat().st_size} bytes, over {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise SampleError("unreadable_file", f"{path} cannot be read ({error.strerror})") from error
