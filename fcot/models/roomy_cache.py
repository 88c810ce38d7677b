"""Keys and values of rows of any lengths, with room behind: a new token is written there, and nothing else is copied.

The cache of transformers copies all keys and values for each token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 32  # tokens that fit behind before all is copied once


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer, with room behind them.

    Args:
        stores: Keys and values `[rows, heads, length + room, head width]`.
        length: How much of them is filled.
    """

    def __init__(self, stores: tuple[Tensor, Tensor], length: int) -> None:
        super().__init__()
        self.stores, self.is_initialized = stores, True
        self.dtype, self.device = stores[0].dtype, stores[0].device
        self._show(length)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add tokens `[rows, heads, new, head width]`, and return all."""
        begin = self.keys.shape[2]
        end = begin + key_states.shape[2]
        if end > self.stores[0].shape[2]:
            more = end - self.stores[0].shape[2] + ROOM
            self.stores = (
                functional.pad(self.stores[0], (0, 0, 0, more)),
                functional.pad(self.stores[1], (0, 0, 0, more)),
            )
        for store, states in zip(self.stores, (key_states, value_states), strict=True):
            store[:, :, begin:end] = states
        self._show(end)
        return self.keys, self.values

    def _show(self, length: int) -> None:
        self.keys, self.values = (store[:, :, :length] for store in self.stores)


@dataclass
class Held:
    """Keys and values of rows, padded on the left in each layer.

    Attributes:
        cache: Of transformers.
        lengths: Tokens of each row in each layer `[layers][rows]`; the rest is padding.
    """

    cache: DynamicCache
    lengths: list[list[int]]


def gather(parts: Sequence[tuple[Held, Sequence[int]]], config: object) -> Held:
    """Return some rows of several caches as one cache, padded no more than they need.

    Args:
        parts: Caches, and which of their rows are taken.
        config: Configuration of the language model.
    """
    layers, lengths = [], []
    for number in range(len(parts[0][0].lengths)):
        its = [held.lengths[number][row] for held, rows in parts for row in rows]
        sides = [
            stacked([(getattr(held.cache.layers[number], side), rows) for held, rows in parts], max(its))
            for side in ("keys", "values")
        ]
        layers.append(RoomyLayer((sides[0], sides[1]), max(its)))
        lengths.append(its)
    cache = DynamicCache(config=config)
    cache.layers = layers
    return Held(cache, lengths)


def stacked(parts: Sequence[tuple[Tensor, Sequence[int]]], longest: int) -> Tensor:
    """Return rows of several keys or values, padded on the left, with room behind.

    Args:
        parts: Keys or values `[rows, heads, length, head width]`, and which rows are taken.
        longest: Most tokens of a row that is taken.
    """
    like, total = parts[0][0], sum(len(rows) for _, rows in parts)
    store = like.new_empty(total, like.shape[1], longest + ROOM, like.shape[3])
    start = 0
    for states, rows in parts:
        width = min(longest, states.shape[2])  # what a part has more is padding
        shown = states[:, :, states.shape[2] - width :]
        taken = shown if list(rows) == list(range(len(shown))) else shown[list(rows)]
        store[start : start + len(rows), :, : longest - width] = 0  # padding is masked, but 0 · NaN would be NaN
        store[start : start + len(rows), :, longest - width : longest] = taken
        start += len(rows)
    return store
