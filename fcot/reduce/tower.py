"""What a vision tower looks at, from its queries and keys: no attention map is made.

A tower's patches stand behind its class token in raster order; blocks of them become one visual token each.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

SCORES = ("cls", "received")
CHUNK = 256  # queries whose probabilities are held at once


@dataclass(frozen=True)
class Look:
    """Queries and keys of some layers of a tower, for some tiles.

    Attributes:
        queries: By layer `[tiles, 1 + patches, width]`.
        keys: By layer `[tiles, 1 + patches, width]`.
        heads: Heads of the tower's attention.
        block: Side of the block of patches that becomes a visual token: 2 in InternVL.
        last: Layer that made the features.
        windows: Which token of a compressor each token of the raster goes into `[tokens]`; None without one.
    """

    queries: dict[int, Tensor]
    keys: dict[int, Tensor]
    heads: int
    block: int
    last: int
    windows: Tensor | None = None

    def take(self, tiles: slice) -> "Look":
        """Return the look at some of the tiles."""
        parts = ({layer: each[tiles] for layer, each in found.items()} for found in (self.queries, self.keys))
        queries, keys = parts
        return replace(self, queries=queries, keys=keys)

    def scores(self, kind: str = "cls", layer: int | None = None) -> Tensor:
        """Return how much attention each visual token gets, summed over its patches, mean over heads `[tiles, tokens]`.

        Args:
            kind: "cls" for the class token's attention, "received" for the mean over all queries.
            layer: Whose; the one that made the features by default.
        """
        layer = self.last if layer is None else layer
        patches = patch_scores(self._heads(self.queries[layer]), self._heads(self.keys[layer]), kind)
        return self._tokens(patches.mean(1)[..., None])[..., 0]

    def token_keys(self) -> Tensor:
        """Return the keys of visual tokens, mean over heads and patches `[tiles, tokens, head width]`."""
        keys = self._heads(self.keys[self.last])[:, :, 1:].float().mean(1)
        return self._tokens(keys, mean=True)

    def one_head(self) -> tuple[Tensor, Tensor]:
        """Return the class token's attention as if the tower had one head, and the keys of visual tokens.

        Returns:
            `[tiles, tokens]`, summed over patches; `[tiles, tokens, width]`, mean over patches.
        """
        query, key = self.queries[self.last][:, None], self.keys[self.last][:, None]
        attention = patch_scores(query, key, "cls")[:, 0]
        return self._tokens(attention[..., None])[..., 0], self._tokens(key[:, 0, 1:].float(), mean=True)

    def _tokens(self, patches: Tensor, *, mean: bool = False) -> Tensor:
        """Return sums, or means, over the patches of each visual token `[tiles, tokens, width]`."""
        tokens = blocks(patches, self.block).sum(-1)
        number = self.block**2
        if self.windows is not None:
            windows = self.windows.to(tokens.device)
            number *= len(windows) // (int(windows.max()) + 1)
            tokens = tokens.new_zeros(len(tokens), int(windows.max()) + 1, tokens.shape[2]).index_add(
                1, windows, tokens
            )
        return tokens / number if mean else tokens

    def _heads(self, states: Tensor) -> Tensor:
        """Return `[tiles, heads, 1 + patches, head width]`."""
        apart: Tensor = states.unflatten(-1, (self.heads, -1))
        return apart.transpose(1, 2)


def patch_scores(query: Tensor, key: Tensor, kind: str) -> Tensor:
    """Return the attention that patches get `[tiles, heads, patches]`, in fp32.

    Args:
        query: `[tiles, heads, 1 + patches, head width]`.
        key: Likewise.
        kind: "cls" or "received".
    """
    with torch.autocast(query.device.type, enabled=False):
        scaled, keys = query.float() * query.shape[-1] ** -0.5, key.float().mT
        if kind == "cls":
            looked: Tensor = (scaled[:, :, :1] @ keys).softmax(-1).sum(2)
            return looked[..., 1:]
        total = torch.stack([(part @ keys).softmax(-1).sum(2) for part in scaled.split(CHUNK, 2)]).sum(0)
        return total[..., 1:] / query.shape[2]


def blocks(patches: Tensor, side: int) -> Tensor:
    """Return the patches of each visual token `[tiles, tokens, width, side²]`, tokens in raster order.

    Args:
        patches: In raster order `[tiles, patches, width]`.
        side: Of a block.
    """
    raster = int(patches.shape[1] ** 0.5)
    apart = patches.unflatten(1, (raster // side, side, raster // side, side))  # rows, in a block, columns, in a block
    together: Tensor = apart.permute(0, 1, 3, 5, 2, 4).flatten(1, 2).flatten(-2)
    return together


@contextmanager
def looking(model: Any, layers: Iterable[int]) -> Iterator[dict[str, dict[int, Tensor]]]:
    """Keep the queries and keys of some layers of InternVL's tower while it runs.

    Args:
        model: `InternVLModel` of transformers.
        layers: Which.

    Yields:
        "queries" and "keys", each by layer `[tiles, 1 + patches, width]`.
    """
    found: dict[str, dict[int, Tensor]] = {"queries": {}, "keys": {}}

    def keep(kind: str, layer: int) -> Any:
        return lambda _module, _args, out: found[kind].__setitem__(layer, out)

    handles = []
    for layer in layers:
        attention = model.vision_tower.encoder.layer[layer].attention
        handles.append(attention.q_norm.register_forward_hook(keep("queries", layer)))
        handles.append(attention.k_norm.register_forward_hook(keep("keys", layer)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def look_of(model: Any, found: dict[str, dict[int, Tensor]], windows: Tensor | None = None) -> Look:
    """Return what `looking` kept, as a look.

    Args:
        model: `InternVLModel` of transformers.
        found: What it yielded.
        windows: Of a student's compressor.
    """
    config = model.config
    return Look(
        found["queries"],
        found["keys"],
        heads=config.vision_config.num_attention_heads,
        block=int(1 / config.downsample_ratio),
        last=feature_layer(config),
        windows=windows,
    )


def feature_layer(config: Any) -> int:
    """Return the number of the tower's layer that makes the features."""
    layer, layers = config.vision_feature_layer, config.vision_config.num_hidden_layers
    return int(layers + layer if layer < 0 else layer - 1)
