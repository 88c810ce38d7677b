"""Training-free reducers of visual tokens, one a file: the rivals of a trained compressor.

A class exported from here is known to every command under the snake_case form of its name.
"""

from fcot.reduce.reducer import REDUCERS, Reducer

__all__ = ["REDUCERS", "Reducer"]
