"""Trained compressors: modules that turn `ratio` visual tokens of a tile into one.

Every class exported here can be named in configurations, by its name in snake case.
"""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from fcot.compress.c_abstractor import CAbstractor
from fcot.compress.compressor import Compressor
from fcot.compress.conv import Conv
from fcot.compress.conv2d import Conv2d
from fcot.compress.features import Features
from fcot.compress.gated_pool import GatedPool
from fcot.compress.identity import Identity
from fcot.compress.ldpv2 import Ldpv2
from fcot.compress.llama_vid import LlamaVid
from fcot.compress.m3_pool import M3Pool
from fcot.compress.mqt import Mqt
from fcot.compress.pool import Pool
from fcot.compress.qformer import Qformer
from fcot.compress.texthawk2 import Texthawk2
from fcot.compress.token_packer import TokenPacker
from fcot.compress.unshuffle import Unshuffle
from fcot.registry import Registry

__all__ = [
    "COMPRESSORS",
    "CAbstractor",
    "Compressor",
    "Conv",
    "Conv2d",
    "Features",
    "GatedPool",
    "Identity",
    "Ldpv2",
    "LlamaVid",
    "M3Pool",
    "Mqt",
    "Pool",
    "Qformer",
    "Texthawk2",
    "TokenPacker",
    "Unshuffle",
    "make_compressor",
]


COMPRESSORS: Registry[type[Compressor]] = Registry(
    "compressor", base=Compressor, own=("ratio", "side", "width", "language_width")
)


def make_compressor(
    name: str,
    *,
    ratio: int,
    side: int,
    width: int,
    options: Mapping[str, Any] | None = None,
    language_width: int | None = None,
) -> Compressor:
    """Build a compressor from its short name.

    Args:
        name: Such as "conv"; `COMPRESSORS` lists them.
        ratio: How many visual tokens become one.
        side: Side of the square raster of tokens of a tile (16 in InternVL2).
        width: Width of a token.
        options: Constructor arguments of this compressor alone.
        language_width: Width of the language model's rows, given to compressors that take it.

    Raises:
        UserError: If the name or an option is unknown, or the ratio does not fit the raster.
    """
    given = dict(options or {})
    COMPRESSORS.check_options(name, given)
    kind = COMPRESSORS[name]
    if "language_width" in signature(kind).parameters:
        given["language_width"] = language_width
    return kind(ratio=ratio, side=side, width=width, **given)
