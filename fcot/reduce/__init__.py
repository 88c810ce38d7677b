"""Training-free reducers of visual tokens, one a file: the rivals of a trained compressor.

A class exported from here is known to every command under the snake_case form of its name.
"""

from fcot.reduce.dart import Dart
from fcot.reduce.fastv import Fastv
from fcot.reduce.fastv_random import FastvRandom
from fcot.reduce.inside import InsideReducer
from fcot.reduce.pyramiddrop import Pyramiddrop
from fcot.reduce.reduced import reduced
from fcot.reduce.reducer import REDUCERS, Reducer, reducer_of
from fcot.reduce.sparsevlm import Sparsevlm

__all__ = [
    "REDUCERS",
    "Dart",
    "Fastv",
    "FastvRandom",
    "InsideReducer",
    "Pyramiddrop",
    "Reducer",
    "Sparsevlm",
    "reduced",
    "reducer_of",
]
