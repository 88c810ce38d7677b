"""Training-free reducers of visual tokens, one a file: the rivals of a trained compressor.

A class exported from here is known to every command under the snake_case form of its name.
"""

from fcot.reduce.before import BeforeReducer
from fcot.reduce.dart import Dart
from fcot.reduce.divprune import Divprune
from fcot.reduce.fastv import Fastv
from fcot.reduce.fastv_random import FastvRandom
from fcot.reduce.fewer_tiles import FewerTiles, fewer_tiles
from fcot.reduce.hired import Hired
from fcot.reduce.inside import InsideReducer
from fcot.reduce.pool import Pool
from fcot.reduce.prumerge import Prumerge
from fcot.reduce.prumerge_plus import PrumergePlus
from fcot.reduce.pyramiddrop import Pyramiddrop
from fcot.reduce.random import Random
from fcot.reduce.reduced import reduced
from fcot.reduce.reducer import REDUCERS, Reducer, reducer_of
from fcot.reduce.seen import Attention, Kept, Seen
from fcot.reduce.shorten import shorten
from fcot.reduce.sparsevlm import Sparsevlm
from fcot.reduce.tome import Tome
from fcot.reduce.visionzip import Visionzip
from fcot.reduce.vispruner import Vispruner

__all__ = [
    "REDUCERS",
    "Attention",
    "BeforeReducer",
    "Dart",
    "Divprune",
    "Fastv",
    "FastvRandom",
    "FewerTiles",
    "Hired",
    "InsideReducer",
    "Kept",
    "Pool",
    "Prumerge",
    "PrumergePlus",
    "Pyramiddrop",
    "Random",
    "Reducer",
    "Seen",
    "Sparsevlm",
    "Tome",
    "Visionzip",
    "Vispruner",
    "fewer_tiles",
    "reduced",
    "reducer_of",
    "shorten",
]
