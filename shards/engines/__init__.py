"""What runs the jobs of `fcot shards`: processes of this machine, or a cluster. One file an engine."""

from shards.engines.dask import Dask
from shards.engines.engine import ENGINES, Engine, executor
from shards.engines.local import Local
from shards.engines.ray import Ray

__all__ = ["ENGINES", "Dask", "Engine", "Local", "Ray", "executor"]
