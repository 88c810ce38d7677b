"""Trained compressors: modules that turn `ratio` visual tokens of a tile into one.

A class exported from here is offered to every configuration under the snake_case form of its name.
"""

from fcot.compress.compressor import Compressor
from fcot.compress.conv import Conv
from fcot.compress.conv2d import Conv2d
from fcot.compress.identity import Identity
from fcot.compress.pool import Pool
from fcot.compress.qformer import Qformer
from fcot.registry import Registry

__all__ = ["Compressor", "Conv", "Conv2d", "Identity", "Pool", "Qformer", "compressors", "make_compressor"]


COMPRESSORS: Registry[type[Compressor]] = Registry("compressor", base=Compressor, own=("ratio", "side", "width"))


def compressors() -> dict[str, type[Compressor]]:
    """Return every registered compressor by its short name."""
    return dict(COMPRESSORS)


def make_compressor(name: str, *, ratio: int, side: int, width: int) -> Compressor:
    """Build a compressor by its short name.

    Args:
        name: Such as "conv"; `compressors()` lists them.
        ratio: How many visual tokens become one.
        side: Side of the square raster of tokens of a tile (16 in InternVL2).
        width: Width of a token.

    Raises:
        UserError: If the name is unknown.
        ValueError: If the ratio does not fit the raster.
    """
    return COMPRESSORS[name](ratio=ratio, side=side, width=width)
