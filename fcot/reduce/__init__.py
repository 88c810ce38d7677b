"""Training-free reducers of visual tokens, one a file: the rivals of a trained compressor.

A class exported from here is known to every command under the snake_case form of its name.
"""

from fcot.reduce.before import BeforeReducer
from fcot.reduce.dart import Dart
from fcot.reduce.divprune import Divprune
from fcot.reduce.fastv import Fastv
from fcot.reduce.fastv_random import FastvRandom
from fcot.reduce.fewer_tiles import FewerTiles
from fcot.reduce.hired import Hired
from fcot.reduce.inside import InsideReducer
from fcot.reduce.pool import Pool
from fcot.reduce.prumerge import Prumerge, PrumergePlus
from fcot.reduce.pyramiddrop import Pyramiddrop
from fcot.reduce.random import Random
from fcot.reduce.reduced import reduced
from fcot.reduce.reducer import REDUCERS, Reducer, reducer_of
from fcot.reduce.sparsevlm import Sparsevlm
from fcot.reduce.tome import Tome
from fcot.reduce.visionzip import Visionzip
from fcot.reduce.vispruner import Vispruner

__all__ = [
    "REDUCERS",
    "BeforeReducer",
    "Dart",
    "Divprune",
    "Fastv",
    "FastvRandom",
    "FewerTiles",
    "Hired",
    "InsideReducer",
    "Pool",
    "Prumerge",
    "PrumergePlus",
    "Pyramiddrop",
    "Random",
    "Reducer",
    "Sparsevlm",
    "Tome",
    "Visionzip",
    "Vispruner",
    "reduced",
    "reducer_of",
]
