"""Training-free reducers of visual tokens, one a file: the rivals of a trained compressor.

A class exported from here is known to every command under the snake_case form of its name.
"""

from fcot.reduce.before import BeforeReducer
from fcot.reduce.divprune import Divprune
from fcot.reduce.fewer_tiles import fewer_tiles
from fcot.reduce.hired import Hired
from fcot.reduce.pool import Pool
from fcot.reduce.prumerge import Prumerge
from fcot.reduce.prumerge_plus import PrumergePlus
from fcot.reduce.random import Random
from fcot.reduce.reducer import REDUCERS, Reducer
from fcot.reduce.seen import Attention, Kept, Seen
from fcot.reduce.shorten import shorten
from fcot.reduce.tome import Tome
from fcot.reduce.visionzip import Visionzip
from fcot.reduce.vispruner import Vispruner

__all__ = [
    "REDUCERS",
    "Attention",
    "BeforeReducer",
    "Divprune",
    "Hired",
    "Kept",
    "Pool",
    "Prumerge",
    "PrumergePlus",
    "Random",
    "Reducer",
    "Seen",
    "Tome",
    "Visionzip",
    "Vispruner",
    "fewer_tiles",
    "shorten",
]
