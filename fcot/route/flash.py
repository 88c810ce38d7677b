"""The router of InternVL3.5-Flash, to compare with: which tiles of a call are compressed, by a quantile over them.

Written from the published inference code (modeling_internvl_chat.py, MIT). A tile's decision there depends on the other
tiles of its call; fcot's own router never looks beyond a request.
"""

import torch
from torch import Tensor, nn

PASSES = 4


class FlashRouter(nn.Module):
    """Predicts the probability that a tile can be compressed, from its raw tokens.

    One learned query attends to the tokens four times; the second attention serves three times, as published.

    Args:
        width: Width of a raw token.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int = 16) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width))
        self.attention = nn.ModuleList(nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.LayerNorm(width))
            for _ in range(PASSES)
        )
        self.gate = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2))

    def pooled(self, tokens: Tensor) -> Tensor:
        """Return what the query has gathered `[tiles, width]` from `[tiles, raw tokens, width]`."""
        found = self.query.expand(len(tokens), 1, -1)
        for number in range(PASSES):
            which = min(number, 1)
            found = self.norm[which](self.attention[which](found, tokens, tokens, need_weights=False)[0])
        pooled: Tensor = found[:, 0]
        return pooled

    def forward(self, tokens: Tensor) -> Tensor:
        """Return two probabilities of each tile `[tiles, 2]`, that of compression first."""
        found = self.pooled(tokens)
        for block in self.blocks:
            found = found + block(found)
        gated: Tensor = self.gate(found)
        return gated.softmax(-1)


def flash_rule(probabilities: Tensor, relative: float, absolute: float) -> Tensor:
    """Return which tiles of a call are compressed, bool `[tiles]`.

    Args:
        probabilities: Of compression `[tiles]`.
        relative: Quantile over all tiles of the call that a tile must exceed.
        absolute: Least probability.
    """
    threshold = torch.quantile(probabilities.float(), relative)
    return (probabilities > threshold) & (probabilities >= absolute)


def kept_places(image: Tensor, compressed: Tensor, whole: int = 256, left: int = 64) -> Tensor:
    """Return the places of a prompt's ids that stay when tiles are compressed, int64 `[kept]`.

    Args:
        image: Which ids are placeholders, bool `[length]`.
        compressed: Which tiles are compressed, bool `[tiles]`.
        whole: Placeholders of a tile.
        left: How many a compressed tile keeps, its first.
    """
    number = image.cumsum(0) - 1
    tile = (number // whole).clamp(0, len(compressed) - 1)
    return (~image | ~compressed[tile] | (number % whole < left)).nonzero()[:, 0]
