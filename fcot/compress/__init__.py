"""Trained compressors: modules that turn `ratio` visual tokens of a tile into one.

A class exported from here is offered to every configuration under the snake_case form of its name.
"""

import re

from fcot.compress.compressor import Compressor
from fcot.compress.conv import Conv
from fcot.compress.conv2d import Conv2d
from fcot.compress.identity import Identity
from fcot.compress.pool import Pool
from fcot.compress.qformer import Qformer
from fcot.errors import nearest

__all__ = ["Compressor", "Conv", "Conv2d", "Identity", "Pool", "Qformer", "compressors", "make_compressor"]


def compressors() -> dict[str, type[Compressor]]:
    """Return every registered compressor by its short name."""
    found: dict[str, type[Compressor]] = {}
    pending = list(Compressor.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        found[re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()] = kind
    return dict(sorted(found.items()))


def make_compressor(name: str, *, ratio: int, side: int, width: int) -> Compressor:
    """Build a compressor by its short name.

    Args:
        name: Such as "conv"; `compressors()` lists them.
        ratio: How many visual tokens become one.
        side: Side of the square raster of tokens of a tile (16 in InternVL2).
        width: Width of a token.

    Raises:
        ValueError: If the name is unknown or the ratio does not fit the raster.
    """
    known = compressors()
    if name not in known:
        raise ValueError(f"There is no compressor {name!r}.{nearest(name, known)}")
    return known[name](ratio=ratio, side=side, width=width)
