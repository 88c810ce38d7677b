"""Data in and out: webdataset shards on disk, and the batches that are made of them."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `Shards`, the data module of a run, when it is first asked for."""
    if name == "Shards":
        from shards.feed.datamodule import Shards

        return Shards
    raise AttributeError(f"module 'shards' has no attribute {name!r}. The data module is Shards.")
