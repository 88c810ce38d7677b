"""A cache with room behind its keys and values: a new token is written there, and nothing else is copied.

That of transformers copies all keys and values for each token.
"""

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


def roomy_cache(layers: list[RoomyLayer], config: Any) -> DynamicCache:
    """Return a cache of these layers.

    Args:
        layers: All of them.
        config: Configuration of the language model.
    """
    cache = DynamicCache(config=config)
    cache.layers = layers
    return cache
