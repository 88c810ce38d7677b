"""Training-free reducers of visual tokens, one a file: the rivals of a trained compressor.

A class exported from here is known to every command under the snake_case form of its name.
"""

from fcot.reduce.fastv import Fastv
from fcot.reduce.inside import InsideReducer
from fcot.reduce.reduced import reduced
from fcot.reduce.reducer import REDUCERS, Reducer

__all__ = ["REDUCERS", "Fastv", "InsideReducer", "Reducer", "reduced"]
